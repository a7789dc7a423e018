"""Who computes on one device: a single worker with all of it, or several with one thread each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.engine.worker import Worker


class Floor:
    """One device's, between the workers that share it; whoever uses it holds the lines' condition.

    A network that shares each operation out among all processors waits at the end of each for the slowest,
    and beside decoding one of them is always late. Pictures that wait together are therefore computed by
    several workers, each on a thread of its own, which wait for nobody. A picture alone, unless there are two
    streams and a large one is decoded meanwhile, half a gradient step and whatever has no such streams take
    the whole device.

    Args:
        streams: workers that there are.

    Attributes:
        leader: the only one that takes the whole device; None while it is not warm.
        claimed: whether the leader wants the device as soon as the others have done what they are at.
    """

    def __init__(self, streams: int) -> None:
        self.streams = streams
        self.leader: Worker | None = None
        self.claimed = False
        self._on: set[Worker] = set()
        self._whole = False

    @property
    def empty(self) -> bool:
        """Whether nobody computes."""
        return not self._on

    @property
    def has_room(self) -> bool:
        """Whether another worker may compute on one thread."""
        return not (self._whole or self.claimed)

    def enter(self, worker: Worker, *, whole: bool) -> None:
        """Begin to compute."""
        self._on.add(worker)
        self._whole = whole

    def leave(self, worker: Worker) -> None:
        """Compute no more; nothing happens if it did not, as when a worker that was given up comes back."""
        if worker in self._on:
            self._on.remove(worker)
            self._whole = False
