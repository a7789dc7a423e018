"""What waits for the devices: two bounded lines that the callers fill and the workers empty."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from app.engine.errors import EngineStopped, QueueFull
from app.engine.jobs import DreamJob, Job, PredictionJob
from app.engine.limits import EngineLimits, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from app.metrics import Metrics

J = TypeVar("J", bound="Job[Any]")

_CLOSED = "the engine takes no requests now"
_MEMORY = 0.2
"""Weight of the newest batch in the running mean of the time that one request takes."""
_LONG = 0.5
"""Of a prediction's time: a decode that takes less is over before it matters who has which processor."""
_MARGIN = 0.8
"""Share of the time until the deadline that the expected wait may fill: it is only an estimate."""


class Lines:
    """Waiting predictions and dreams, and the places that bound them.

    A place is held from before a picture is decoded until its answer, so that what cannot be answered is
    refused before it costs anything. One lock guards everything here; its two conditions tell those who can
    take anything and those who only take a share of several predictions, so that nobody is woken in vain
    while a device computes.

    Args:
        limits: how many places there are.
        running: dreams that the devices carry through at once, all together.
        metrics: where waiting is counted.
        clock: monotonic, in seconds; a test gives its own.
        beside: seconds that other work, which goes on now beside the devices, takes a processor; else 0.
        before: seconds until what came now would be ready for the devices, if others are before it; else 0.
    """

    def __init__(
        self,
        limits: EngineLimits,
        running: int,
        metrics: Metrics,
        *,
        clock: Callable[[], float] = time.monotonic,
        beside: Callable[[], float] = lambda: 0.0,
        before: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.clock = clock
        self._beside = beside
        self._before = before
        lock = threading.RLock()
        self.changed = threading.Condition(lock)
        self._shared = threading.Condition(lock)
        self.given_up = False
        self._metrics = metrics
        self._most = {
            Kind.PREDICTION: limits.max_predictions,
            Kind.EXPLANATION: limits.max_explanations + running,
        }
        self._held = dict.fromkeys(Kind, 0)
        self._work = dict.fromkeys(Kind, 0)  # of those who hold a place: predictions, or gradients
        self._seconds = {Kind.PREDICTION: 0.1, Kind.EXPLANATION: 0.2}  # for one, until the first are done
        self._predictions: deque[PredictionJob] = deque()
        self._dreams: deque[DreamJob] = deque()
        self._stopping = False
        self._open = 0
        self._idle = self._idle_leaders = 0
        for kind, line in ((Kind.PREDICTION, self._predictions), (Kind.EXPLANATION, self._dreams)):
            metrics.watch("queue_length", "requests that wait for a device", line.__len__, kind=kind)

    @property
    def accepting(self) -> bool:
        """Whether requests are taken: a device is warm, and nobody has asked to stop."""
        return self._open > 0 and not self._stopping

    # What callers do.

    def check_room(self, kind: Kind, deadline: float, work: int = 1) -> None:
        """Refuse what `hold` would refuse now, without taking a place.

        Raises:
            QueueFull, EngineStopped: see `hold`.
        """
        with self.changed:
            self._check_room(kind, deadline, work)

    def refusal(self, kind: Kind, deadline: float) -> QueueFull | None:
        """What `hold` would raise now for want of room; nothing is counted."""
        with self.changed:
            return self._refusal(kind, deadline) if self.accepting else None

    def hold(self, kind: Kind, deadline: float, work: int = 1, *, decoded: bool = False) -> None:
        """Take a place; `release` gives it back.

        Args:
            kind: of request.
            deadline: by the clock.
            work: predictions, or gradients, that it takes.
            decoded: whether it need not wait for what is `before`.

        Raises:
            QueueFull: all places are held, or those who hold them will not be answered before `deadline`.
            EngineStopped: nothing is taken now.
        """
        with self.changed:
            self._check_room(kind, deadline, work, decoded=decoded)
            self._held[kind] += 1
            self._work[kind] += work

    def release(self, kind: Kind, work: int = 1) -> None:
        """Give a place back."""
        with self.changed:
            self._held[kind] -= 1
            self._work[kind] -= work
            if self.finished:  # a worker that has been told to stop waits for the last one
                self.wake()

    def submit(self, job: PredictionJob | DreamJob) -> None:
        """Put a job of someone who holds a place in its line.

        Raises:
            EngineStopped: what was accepted has been given up.
        """
        with self.changed:
            if self.given_up:
                raise EngineStopped(_CLOSED)
            if isinstance(job, PredictionJob):
                self._append(self._predictions, job, self._most[Kind.PREDICTION])
            else:
                self._append(self._dreams, job, self._most[Kind.EXPLANATION])
            self.changed.notify_all()
            if len(self._predictions) > 1 or not self._idle_leaders:
                self._shared.notify_all()

    # What workers do; all of it with `changed` held.

    @property
    def predictions_wait(self) -> bool:
        """Whether there is any prediction to make."""
        return bool(self._predictions)

    @property
    def dreams_since(self) -> float | None:
        """When the first of the dreams that wait was accepted; None if none waits."""
        return self._dreams[0].accepted if self._dreams else None

    @property
    def length(self) -> int:
        """Predictions that wait."""
        return len(self._predictions)

    @property
    def crowded(self) -> bool:
        """Whether other work has a processor for about as long as a prediction takes."""
        return self._beside() > _LONG * self._seconds[Kind.PREDICTION]

    @property
    def finished(self) -> bool:
        """Whether there will be no more work."""
        return self.given_up or (self._stopping and not any(self._held.values()))

    def wake(self) -> None:
        """Let everybody who waits look again."""
        self.changed.notify_all()
        self._shared.notify_all()

    def wait(self, *, leads: bool = True) -> None:
        """Wait for a change, as one of the idle, who might take a whole device or only one thread of it."""
        self._idle += 1
        self._idle_leaders += leads
        try:
            (self.changed if leads else self._shared).wait()
        finally:
            self._idle -= 1
            self._idle_leaders -= leads

    def count_open(self, change: int) -> None:
        """A worker has become warm (1), or takes no more turns (-1)."""
        self._open += change

    def next_prediction(self) -> PredictionJob | None:
        """The first that anybody still waits for; those before it are dropped."""
        now = self.clock()
        while self._predictions and not self._predictions[0].wanted(now):
            self._predictions.popleft()
        return self._predictions[0] if self._predictions else None

    def take_predictions(self, largest: int, *, whole: bool = False) -> list[PredictionJob]:
        """The next batch: of one model, in the order of arrival, and with a share left to idle workers.

        Args:
            largest: number of pictures.
            whole: whether it is taken to a whole device, as only other devices' leaders could.
        """
        waiting = len(self._predictions)
        most = min(largest, math.ceil(waiting / (1 + (self._idle_leaders if whole else self._idle))))
        batch: list[PredictionJob] = []
        now = self.clock()
        while self._predictions and len(batch) < most:
            if batch and self._predictions[0].model is not batch[0].model:
                break
            job = self._predictions.popleft()
            if job.wanted(now):
                batch.append(job)
        return batch

    def take_dreams(self, room: int) -> list[DreamJob]:
        """As many waiting dreams as there is room for."""
        now = self.clock()
        taken: list[DreamJob] = []
        while self._dreams and len(taken) < room:
            job = self._dreams.popleft()
            if job.wanted(now):
                taken.append(job)
        return taken

    # What both do.

    def learn(self, kind: Kind, seconds: float) -> None:
        """Take in how long one prediction, or one gradient, took a device."""
        with self.changed:
            self._seconds[kind] += _MEMORY * (seconds - self._seconds[kind])

    def stop(self) -> None:
        """Hand out no more places; workers end when the last one is released."""
        with self.changed:
            self._stopping = True
            self.wake()

    def give_up(self, reason: str) -> None:
        """Answer everything that still waits with `EngineStopped`, and take nothing more."""
        with self.changed:
            self._stopping = self.given_up = True
            left: Iterable[Job[Any]] = [*self._predictions, *self._dreams]
            self._predictions.clear()
            self._dreams.clear()
            self.wake()
        for job in left:
            job.fail(EngineStopped(reason))

    def _append(self, line: deque[J], job: J, most: int) -> None:
        line.append(job)
        if len(line) > 2 * most:  # only if most of it is abandoned, for whoever waits holds a place
            now = self.clock()
            wanted = [waiting for waiting in line if waiting.wanted(now)]
            line.clear()
            line.extend(wanted)

    def _check_room(self, kind: Kind, deadline: float, work: int, *, decoded: bool = False) -> None:
        if not self.accepting:
            raise EngineStopped(_CLOSED)
        refusal = self._refusal(kind, deadline, work, decoded=decoded)
        if refusal is not None:
            self._metrics.shed.labels(kind).inc()
            raise refusal

    def _refusal(
        self, kind: Kind, deadline: float, work: int = 1, *, decoded: bool = False
    ) -> QueueFull | None:
        ahead, each = self._held[kind], self._seconds[kind] / self._open
        budget = _MARGIN * (deadline - self.clock())
        if ahead >= self._most[kind]:
            return QueueFull(f"as many {kind}s are under way as may be: {ahead}", self._work[kind] * each)
        # Who has nothing to do refuses nobody, so that a bad estimate cannot shut it for ever.
        expected = max((self._work[kind] + work) * each if ahead else 0.0, 0.0 if decoded else self._before())
        if expected > max(0.0, budget):  # whose time is over although nobody is before him is told that
            message = f"the answer would come after its deadline; {kind}s ahead: {ahead}"
            return QueueFull(message, expected - budget)
        return None
