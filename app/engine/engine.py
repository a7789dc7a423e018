"""The engine as its callers see it: take a place, then await a prediction or an explanation."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from app.engine.errors import DeadlinePassed, EngineStopped
from app.engine.floor import Floor
from app.engine.jobs import DreamJob, Dreamt, Explanation, Job, Pixels, Prediction, PredictionJob
from app.engine.lines import Lines
from app.engine.worker import Worker
from app.explain.dream import DEFAULTS, DreamSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from app.devices import Device
    from app.engine.errors import QueueFull
    from app.engine.limits import EngineLimits, Kind
    from app.engine.model import Model
    from app.metrics import Metrics

log = logging.getLogger(__name__)

Result = TypeVar("Result")

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


class Engine:
    """An async queue in front of one or more devices. It knows no HTTP.

    Whoever awaits may be cancelled at any time: the work is then dropped before it reaches a device. A
    worker that dies or hangs is replaced; what was on its device is answered with `DeviceLost`, and what
    waited goes on waiting.

    Args:
        devices: each gets a worker for each of its streams; all take from the same two lines.
        limits: what bounds it.
        metrics: where it counts.
        clock: monotonic, in seconds; deadlines are by it.
        beside: seconds that decoding, where it goes on now, takes a processor; else 0.
        before: seconds until a picture that came now would be decoded, if others are before it; else 0.
    """

    def __init__(
        self,
        devices: Sequence[Device],
        limits: EngineLimits,
        metrics: Metrics,
        *,
        clock: Callable[[], float] = time.monotonic,
        beside: Callable[[], float] = lambda: 0.0,
        before: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._limits = limits
        self._metrics = metrics
        running = sum(limits.running_on(device.torch) for device in devices)
        self._lines = Lines(limits, running, metrics, clock=clock, beside=beside, before=before)
        self._posts = [post for index, device in enumerate(devices) for post in _posts(index, device)]
        self._workers = [self._new_worker(number) for number in range(len(self._posts))]
        self._restarts = [0] * len(self._posts)
        self._restart_at: list[float | None] = [None] * len(self._posts)
        self._hung = 0
        self._model: Model | None = None
        self._watching: asyncio.Task[None] | None = None

    def start(self, model: Model) -> None:
        """Start the workers, which warm up and then take requests. Needs a running event loop."""
        self._model = model
        for worker in self._workers:
            worker.start(model)
        self._watching = asyncio.create_task(self._watch())

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return self._lines.accepting

    @property
    def beyond_repair(self) -> bool:
        """Whether so many threads hang, or those of all devices keep dying, that only a new process helps."""
        leaders = [count for post, count in zip(self._posts, self._restarts, strict=True) if post.leads]
        return self._hung >= MOST_HUNG or min(leaders) >= MOST_DEATHS

    def check_room(self, kind: Kind, *, deadline: float, work: int = 1) -> None:
        """Refuse what could not be taken now, before anything is spent on it.

        Args:
            kind: of request.
            deadline: by the engine's clock.
            work: predictions, or gradients, that it takes.

        Raises:
            QueueFull: there is no place, or no hope to be answered in time.
            EngineStopped: nothing is taken now.
        """
        self._lines.check_room(kind, deadline, work)

    def refusal(self, kind: Kind, *, deadline: float) -> QueueFull | None:
        """What `check_room` would raise now for want of room; it is not counted."""
        return self._lines.refusal(kind, deadline)

    @contextmanager
    def place(
        self,
        kind: Kind,
        *,
        deadline: float,
        work: int = 1,
        left: type[BaseException] = asyncio.CancelledError,
    ) -> Iterator[None]:
        """Hold a place for one request, from before its decoding until its answer; how that ends is counted.

        Args:
            kind: of request.
            deadline: by the engine's clock.
            work: predictions, or gradients, that it takes.
            left: what is raised within when nobody waits for the answer any more.

        Raises:
            QueueFull, EngineStopped: see `check_room`.
        """
        self._lines.hold(kind, deadline, work)
        try:
            yield
        except left:
            self._metrics.abandoned.labels(kind).inc()
            raise
        except DeadlinePassed:
            self._metrics.expired.labels(kind).inc()
            raise
        finally:
            self._lines.release(kind, work)

    async def predict(self, model: Model, pixels: Pixels, *, deadline: float) -> Prediction:
        """The emotions that a picture evokes. Hold a `place` meanwhile.

        Args:
            model: what answers.
            pixels: ``uint8 [3, S, S]`` with the card's S.
            deadline: by the engine's clock.

        Raises:
            DeadlinePassed: the deadline passed first.
            EngineStopped: the engine was stopped before this could be answered.
            DeviceLost: the device failed meanwhile.
            ModelFailed: the network failed on this picture.
        """
        job = PredictionJob(model, pixels, deadline, self._lines.clock())
        self._lines.submit(job)
        return await self._answer(job)

    async def explain(
        self,
        model: Model,
        pixels: Pixels,
        emotion: int | None,
        *,
        deadline: float,
        settings: DreamSettings = DEFAULTS,
        layer: str | None = None,
    ) -> Explanation:
        """What in a picture raises or lowers an emotion, None being the dominant one; or excites a layer.

        Takes and raises what `predict` does.
        """
        prediction = await self.predict(model, pixels, deadline=deadline)
        chosen = int(prediction.probabilities.argmax()) if emotion is None else emotion
        return await self._dream(
            prediction, self._job(model, pixels, chosen, deadline, settings, layer=layer)
        )

    async def explain_all(
        self, model: Model, pixels: Pixels, *, deadline: float, settings: DreamSettings = DEFAULTS
    ) -> list[Explanation]:
        """An explanation of each emotion, the most probable first; one after the other, as others wait too.

        Takes and raises what `predict` does.
        """
        prediction = await self.predict(model, pixels, deadline=deadline)
        order = (-prediction.probabilities).argsort(kind="stable")
        return [
            await self._dream(prediction, self._job(model, pixels, int(emotion), deadline, settings))
            for emotion in order
        ]

    def _job(
        self,
        model: Model,
        pixels: Pixels,
        emotion: int,
        deadline: float,
        settings: DreamSettings,
        *,
        layer: str | None = None,
    ) -> DreamJob:
        now = self._lines.clock()
        return DreamJob(model, pixels, deadline, now, emotion=emotion, settings=settings, layer=layer)

    async def _dream(self, prediction: Prediction, job: DreamJob) -> Explanation:
        self._lines.submit(job)
        return _explanation(job, prediction, await self._answer(job))

    async def warm(self, model: Model) -> None:
        """Let every device run a new model, between the turns, so that no request pays for its first time.

        Workers that are replaced from now on warm this model up.

        Raises:
            EngineStopped: no device takes work now.
            Exception: whatever the network raises; go on with the old model then.
        """
        if not self.ready:
            raise EngineStopped("no device is ready to try a new checkpoint")
        warmed: set[Worker] = set()
        # One that was replaced meanwhile has warmed up the old model, and is asked in its turn.
        while fresh := {each for each in self._workers if each.leads and each.open} - warmed:
            await asyncio.gather(*(asyncio.wrap_future(worker.warm(model)) for worker in fresh))
            warmed |= fresh
        self._model = model

    async def drain(self, grace: float) -> None:
        """Take nothing more, finish what was accepted, and end the workers.

        What still waits after `grace` seconds is answered with `EngineStopped`, what is on a device with
        `DeviceLost`.
        """
        self._lines.stop()
        end = time.monotonic() + grace
        while self._alive() and time.monotonic() < end:  # noqa: ASYNC110 - threads give nothing to await
            await asyncio.sleep(0.01)
        if self._watching is not None:
            self._watching.cancel()
        self._lines.give_up("the service is shutting down")
        for worker in self._workers:
            worker.retire("the service is shutting down")

    def check_workers(self) -> None:
        """Retire a worker that died or hangs, and replace it when its time has come."""
        now = self._lines.clock()
        hung: set[Floor] = set()  # a process that was frozen finds all streams of a device late at once
        for index, worker in enumerate(self._workers):
            if worker.open and not worker.hung():
                self._restarts[index] = 0
            elif self._restart_at[index] is None and (reason := _trouble(worker)):
                self._lose(index, reason, now)
                if reason == "hung":
                    hung.add(self._posts[index].floor)
            if (due := self._restart_at[index]) is not None and now >= due:
                self._replace(index)
        self._hung += len(hung)

    def _alive(self) -> bool:
        return any(worker.thread.is_alive() for worker in self._workers)

    def _lose(self, index: int, reason: str, now: float) -> None:
        self._metrics.restarts.labels(reason).inc()
        doublings = min(self._restarts[index], _DOUBLINGS)
        wait = min(LONGEST_BACK_OFF, CHECK_SECONDS * (2**doublings - 1))  # the first at once
        log.critical("the thread of %s %s; a new one in %g s", self._posts[index].device.torch, reason, wait)
        self._workers[index].retire(f"the device's thread {reason}")
        self._restarts[index] += 1
        self._restart_at[index] = now + wait

    def _replace(self, index: int) -> None:
        self._restart_at[index] = None
        predecessor, self._workers[index] = self._workers[index], self._new_worker(index)
        self._workers[index].learn_from(predecessor)
        if self._model is None:
            return
        try:
            self._workers[index].start(self._model)
        except RuntimeError:  # the process may have no more threads
            log.exception("no thread for %s can be started", self._posts[index].device.torch)
            self._lose(index, "died", self._lines.clock())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                self.check_workers()
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

    async def _answer(self, job: Job[Result]) -> Result:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(loop.time() + job.deadline - self._lines.clock()):
                return await asyncio.wrap_future(job.answer)
        except TimeoutError as error:
            raise DeadlinePassed("the deadline passed before the result was there") from error


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


def _explanation(job: DreamJob, prediction: Prediction, dreamt: Dreamt) -> Explanation:
    return Explanation(
        emotion=job.emotion,
        prediction=prediction,
        relevance=dreamt.relevance,
        dreamed=dreamt.dreamed,
        original=job.pixels,
        rise=dreamt.rise,
        completeness_error=dreamt.completeness_error,
        imbalance=dreamt.imbalance,
        steps=dreamt.steps,
        queue_seconds=prediction.queue_seconds + dreamt.queue_seconds,
        infer_seconds=prediction.infer_seconds + dreamt.infer_seconds,
        layer=job.layer,
    )
