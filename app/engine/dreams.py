"""The dreams that one device carries through, half a gradient step at a time.

Between the halves predictions have their turn, so none waits for more than half a step, and for what streams
have begun before it where it is `due`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from app.engine.device import is_out_of_memory, wait_for
from app.engine.errors import ModelFailed
from app.engine.limits import Kind
from app.explain.dream import begin_step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.devices import Device
    from app.engine.jobs import DreamJob
    from app.engine.lines import Lines
    from app.metrics import Metrics

log = logging.getLogger(__name__)

_PATIENCE = 1.0
"""Seconds that streams may keep a device from those who dream, though no prediction waits."""


@dataclass
class _Begun:
    """A gradient step after its first half.

    Attributes:
        finish: the second half.
        seconds: that the first took.
    """

    dreams: Sequence[DreamJob]
    finish: Callable[[], None]
    seconds: float


class Dreams:
    """What a worker runs when no prediction waits. Only the worker that leads its device has any.

    Args:
        index: of the device among the engine's.
        device: that computes.
        lines: where dreams come from; `next_half` and `give_up_all` are called with its condition held.
        metrics: where the steps are counted.
        most: dreams that share a step.

    Attributes:
        most: as above; fewer once that many did not fit in memory.
    """

    def __init__(self, index: int, device: Device, lines: Lines, metrics: Metrics, most: int) -> None:
        self.most = most
        self._index = index
        self._device = device
        self._lines = lines
        self._metrics = metrics
        self._running: list[DreamJob] = []
        self._apart: list[DreamJob] = []  # of a step that failed together: each takes its next one alone
        self._begun: _Begun | None = None
        self._at_once = False  # the next step, as the half before was let go: else the next might be, too
        self._last_half = 0.0  # when it was taken
        self._due = False

    @property
    def due(self) -> bool:
        """Whether half a step goes next, before predictions.

        It does where streams computed beside each other for long, and no prediction waited when asked.
        Else each could go on before the other ends for ever, and nobody would have the whole device.
        """
        if self._late() and not self._lines.predictions_wait:
            self._due = True
        return self._due

    def _late(self) -> bool:
        since = self._running[0].accepted if self._running else self._lines.dreams_since
        return since is not None and self._lines.clock() - max(since, self._last_half) > _PATIENCE

    def drop_unwanted(self) -> None:
        """Let go of half a step that nobody waits for any more; predictions may keep its rest waiting.

        The condition of the lines is held.
        """
        now = self._lines.clock()
        if self._begun is not None and not any(job.wanted(now) for job in self._begun.dreams):
            self._begun = None

    def drop_half(self) -> bool:
        """Let go of half a step because its memory is needed; whether there was any.

        The step is begun anew, and taken in one turn, so that dreams get on however little memory there is.
        The condition of the lines is held.
        """
        begun, self._begun = self._begun, None
        if begun is None:
            return False
        self._at_once = True
        if len(begun.dreams) == 1:  # it may be one that has to be apart
            self._apart.insert(0, begun.dreams[0])
        return True

    def next_half(self) -> Callable[[], object] | None:
        """The rest of the step that has begun, or the beginning of the next; None if nobody dreams.

        `drop_unwanted` goes before it.
        """
        self._due = False
        self._last_half = now = self._lines.clock()
        if self._begun is not None:
            return self._finish
        self._admit(now)
        if not self._running:
            return None
        at_once, self._at_once = self._at_once, False
        return partial(self._both if at_once else self._begin, self._next_together())

    def give_up_all(self) -> list[DreamJob]:
        """Forget the dreams, which somebody else will answer."""
        lost, self._running, self._apart, self._begun = self._running, [], [], None
        return lost

    def _admit(self, now: float) -> None:
        self._running = [job for job in self._running if job.wanted(now)]
        for job in self._lines.take_dreams(self.most - len(self._running)):
            job.begin_on(job.model.copies[self._index], now)
            self._metrics.queue_seconds.labels(Kind.EXPLANATION).observe(now - job.accepted)
            self._running.append(job)
        self._apart = [job for job in self._apart if job in self._running]

    def _next_together(self) -> list[DreamJob]:
        """The dreams that can share a step with the one that runs longest: of its size, model and layer.

        Those that have to be apart go first, one by one.
        """
        if self._apart:
            return [self._apart.pop(0)]
        first = self._running[0]
        alike = [
            job
            for job in self._running
            if (job.dream.side, job.layer) == (first.dream.side, first.layer) and job.model is first.model
        ]
        return alike[: self.most]

    def _begin(self, together: Sequence[DreamJob]) -> None:
        began = self._lines.clock()
        network = together[0].model.copies[self._index].network
        try:
            finish = begin_step(network, [job.dream for job in together])
            wait_for(self._device)  # else a GPU would have the prediction that goes next beside it
        except Exception as error:  # noqa: BLE001 - whatever a network raises on a picture
            self._failed(together, error)
            return
        self._begun = _Begun(together, finish, self._lines.clock() - began)

    def _both(self, together: Sequence[DreamJob]) -> None:
        self._begin(together)
        self._finish()

    def _finish(self) -> None:
        begun, self._begun = self._begun, None
        if begun is None:  # its device was given up in this moment, or it has failed in its first half
            return
        together, seconds = begun.dreams, begun.seconds
        began = self._lines.clock()
        try:
            begun.finish()
        except Exception as error:  # noqa: BLE001 - as in `_begin`
            del begun  # which holds the memory that the next try needs
            self._failed(together, error)
            return
        seconds += self._lines.clock() - began
        self._metrics.computed(Kind.EXPLANATION, len(together), seconds)
        for job in together:
            job.infer_seconds += seconds
        self._hand_over([job for job in together if job.dream.done], len(together))

    def _hand_over(self, over: Sequence[DreamJob], shared: int) -> None:
        """Answer dreams that are over; so many shared a step with each."""
        now = self._lines.clock()
        for job in over:
            taken = now - (now if job.started is None else job.started)  # with what predictions had of it
            self._lines.learn(Kind.EXPLANATION, taken / shared / job.dream.steps_taken)
            try:
                result = job.result()
            except Exception as error:  # noqa: BLE001 - it is computed on the device as well
                self._give_up(job, error)
                continue
            job.succeed(result)
        self._leave(over)  # not before: whoever dies with a dream in hand has to be seen to hold it

    def _failed(self, together: Sequence[DreamJob], error: Exception) -> None:
        """Alone, a dream that fails is given up; together, fewer try again, or each alone.

        Some may have taken this step already, if another failed while it took it.
        """
        if len(together) == 1:
            self._give_up(together[0], error)
            self._leave(together)
            return
        if is_out_of_memory(error):
            # Its frames hold the whole gradient's memory; even cleared, they hold what a half closed over.
            error.with_traceback(None)
            self.most = max(1, len(together) // 2)
            log.warning("out of memory with %d dreams; now %d at once", len(together), self.most)
        else:
            self._apart = list(together)
        self._hand_over([job for job in together if job.dream.done], len(together))

    def _give_up(self, job: DreamJob, error: Exception) -> None:
        wait_for(self._device)  # a GPU that has failed fails at everything: then it was not the picture
        log.error("a gradient step failed", exc_info=error)
        self._metrics.failures.labels(Kind.EXPLANATION).inc()
        job.fail(ModelFailed("the network failed while explaining this picture"))

    def _leave(self, finished: Sequence[DreamJob]) -> None:
        with self._lines.changed:
            self._running = [job for job in self._running if job not in finished]
