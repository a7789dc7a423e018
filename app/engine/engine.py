"""The engine as its callers see it: take a place, then await a prediction or an explanation."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from app.engine.crew import Crew
from app.engine.errors import DeadlinePassed, EngineStopped
from app.engine.jobs import DreamJob, Dreamt, Explanation, Job, Pixels, Prediction, PredictionJob
from app.engine.lines import Lines
from app.explain.dream import DEFAULTS, DreamSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from app.devices import Device
    from app.engine.errors import QueueFull
    from app.engine.limits import EngineLimits, Kind
    from app.engine.model import Model
    from app.metrics import Metrics

Result = TypeVar("Result")


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
        self._metrics = metrics
        running = sum(limits.running_on(device.torch) for device in devices)
        self._lines = Lines(limits, running, metrics, clock=clock, beside=beside, before=before)
        self._crew = Crew(devices, self._lines, limits, metrics)

    def start(self, model: Model) -> None:
        """Start the workers, which warm up and then take requests. Needs a running event loop."""
        self._crew.start(model)

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return self._lines.accepting

    @property
    def beyond_repair(self) -> bool:
        """Whether so many threads hang, or those of all devices keep dying, that only a new process helps."""
        return self._crew.beyond_repair

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
        decoded: bool = False,
        left: type[BaseException] = asyncio.CancelledError,
    ) -> Iterator[None]:
        """Hold a place for one request, from before its decoding until its answer; how that ends is counted.

        Args:
            kind: of request.
            deadline: by the engine's clock.
            work: predictions, or gradients, that it takes.
            decoded: whether its picture is there already, so that no decoding has to be waited for.
            left: what is raised within when nobody waits for the answer any more.

        Raises:
            QueueFull, EngineStopped: see `check_room`.
        """
        self._lines.hold(kind, deadline, work, decoded=decoded)
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
        await self._crew.warm(model)

    async def drain(self, grace: float) -> None:
        """Take nothing more, finish what was accepted, and end the workers.

        What still waits after `grace` seconds is answered with `EngineStopped`, what is on a device with
        `DeviceLost`.
        """
        self._lines.stop()
        end = time.monotonic() + grace
        while self._crew.alive and time.monotonic() < end:  # noqa: ASYNC110 - threads give nothing to await
            await asyncio.sleep(0.01)
        self._crew.leave_alone()
        self._lines.give_up("the service is shutting down")
        self._crew.retire("the service is shutting down")

    async def _answer(self, job: Job[Result]) -> Result:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(loop.time() + job.deadline - self._lines.clock()):
                return await asyncio.wrap_future(job.answer)
        except TimeoutError as error:
            raise DeadlinePassed("the deadline passed before the result was there") from error


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
