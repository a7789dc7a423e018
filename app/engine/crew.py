"""The workers of all devices, and what looks after them: who dies or hangs is replaced."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.engine.floor import Floor
from app.engine.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.devices import Device
    from app.engine.limits import EngineLimits
    from app.engine.lines import Lines
    from app.engine.model import Model
    from app.metrics import Metrics

log = logging.getLogger(__name__)

CHECK_SECONDS = 0.1
"""Time between two looks at the workers."""
LONGEST_BACK_OFF = 30.0
"""Seconds between two restarts of a worker that never gets warm."""
_DOUBLINGS = 10
"""Of that time at most: a device that is lost for good is tried for ever, and powers of two have an end."""
MOST_HUNG = 3
"""Times that a device hung, whose threads nothing can end, until the process should be restarted whole."""
MOST_DEATHS = 5
"""Threads of every device that died in a row, likewise: what a GPU has lost, only a new process gets back. As
long as another answers, the process is of more use than its restart, which may find the GPU lost again."""


class Crew:
    """A worker for each stream of each device.

    Args:
        devices: that they own.
        lines: where their work comes from.
        limits: what bounds it.
        metrics: where restarts are counted.

    Attributes:
        workers: those of now; the streams of a device follow one another, its leader first.
    """

    def __init__(
        self, devices: Sequence[Device], lines: Lines, limits: EngineLimits, metrics: Metrics
    ) -> None:
        self._lines = lines
        self._limits = limits
        self._metrics = metrics
        self._posts = [post for index, device in enumerate(devices) for post in _posts(index, device)]
        self.workers = [self._new_worker(number) for number in range(len(self._posts))]
        self._restarts = [0] * len(self._posts)
        self._restart_at: list[float | None] = [None] * len(self._posts)
        self._hung = 0
        self._model: Model | None = None
        self._watching: asyncio.Task[None] | None = None

    def start(self, model: Model) -> None:
        """Start the workers, and look after them from now on. Needs a running event loop."""
        self._model = model
        for worker in self.workers:
            worker.start(model)
        self._watching = asyncio.create_task(self._watch())

    @property
    def alive(self) -> bool:
        """Whether any thread has not ended."""
        return any(worker.thread.is_alive() for worker in self.workers)

    @property
    def beyond_repair(self) -> bool:
        """Whether so many threads hang, or those of all devices keep dying, that only a new process helps."""
        leaders = [count for post, count in zip(self._posts, self._restarts, strict=True) if post.leads]
        return self._hung >= MOST_HUNG or min(leaders) >= MOST_DEATHS

    async def warm(self, model: Model) -> None:
        """Let every device run a new model; workers that are replaced from now on warm this one up.

        Raises:
            Exception: whatever the network raises, or the loss of a device.
        """
        warmed: set[Worker] = set()
        # One that was replaced meanwhile has warmed up the old model, and is asked in its turn.
        while fresh := {each for each in self.workers if each.leads and each.open} - warmed:
            await asyncio.gather(*(asyncio.wrap_future(worker.warm(model)) for worker in fresh))
            warmed |= fresh
        for each in self.workers:
            if each.leads and not each.open:  # it is at the old model still, or lost: nobody waits for it
                each.warm(model)
        self._model = model

    def leave_alone(self) -> None:
        """Replace nobody any more."""
        if self._watching is not None:
            self._watching.cancel()

    def retire(self, reason: str) -> None:
        """Let all of them take no more turns."""
        for worker in self.workers:
            worker.retire(reason)

    def check(self) -> None:
        """Retire a worker that died or hangs, and replace it when its time has come."""
        now = self._lines.clock()
        hung: set[Floor] = set()  # a process that was frozen finds all streams of a device late at once
        for index, worker in enumerate(self.workers):
            if worker.open and not worker.hung():
                self._restarts[index] = 0
            elif self._restart_at[index] is None and (reason := _trouble(worker)):
                self._lose(index, reason, now)
                if reason == "hung":
                    hung.add(self._posts[index].floor)
            if (due := self._restart_at[index]) is not None and now >= due:
                self._replace(index)
        self._hung += len(hung)

    def _lose(self, index: int, reason: str, now: float) -> None:
        self._metrics.restarts.labels(reason).inc()
        doublings = min(self._restarts[index], _DOUBLINGS)
        wait = min(LONGEST_BACK_OFF, CHECK_SECONDS * (2**doublings - 1))  # the first at once
        log.critical("the thread of %s %s; a new one in %g s", self._posts[index].device.torch, reason, wait)
        self.workers[index].retire(f"the device's thread {reason}")
        self._restarts[index] += 1
        self._restart_at[index] = now + wait

    def _replace(self, index: int) -> None:
        self._restart_at[index] = None
        predecessor, self.workers[index] = self.workers[index], self._new_worker(index)
        self.workers[index].learn_from(predecessor)
        if self._model is None:
            return
        try:
            self.workers[index].start(self._model)
        except RuntimeError:  # the process may have no more threads
            log.exception("no thread for %s can be started", self._posts[index].device.torch)
            self._lose(index, "died", self._lines.clock())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                self.check()
            except Exception:  # else nobody would look after the devices any more
                log.exception("looking after the devices failed")

    def _new_worker(self, number: int) -> Worker:
        post = self._posts[number]
        return Worker(
            post.index,
            post.device,
            self._lines,
            self._limits,
            self._metrics,
            floor=post.floor,
            leads=post.leads,
        )


@dataclass(frozen=True)
class _Post:
    """What a worker, and whoever replaces it, is given."""

    index: int
    device: Device
    floor: Floor
    leads: bool


def _posts(index: int, device: Device) -> list[_Post]:
    """One for each stream of a device; the first leads."""
    floor = Floor(device.streams)
    return [_Post(index, device, floor, leads=stream == 0) for stream in range(device.streams)]


def _trouble(worker: Worker) -> str | None:
    if worker.died:
        return "died"
    return "hung" if worker.hung() else None
