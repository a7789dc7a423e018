"""The engine as its callers see it: await a prediction or an explanation."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from app.engine.errors import DeadlinePassed
from app.engine.jobs import DreamJob, Explanation, Job, Pixels, Prediction, PredictionJob
from app.engine.worker import EngineLimits, Worker
from app.explain.dream import DEFAULTS, Dream

if TYPE_CHECKING:
    from app.checkpoint import Checkpoint

Result = TypeVar("Result")


class Engine:
    """An async queue in front of one device. It knows no HTTP.

    Whoever awaits may be cancelled at any time: the work is then dropped before it reaches the device.
    """

    def __init__(self, checkpoint: Checkpoint, limits: EngineLimits) -> None:
        self._checkpoint = checkpoint
        self._worker = Worker(checkpoint, limits)

    def start(self) -> None:
        """Start the worker, which warms up and then takes requests."""
        self._worker.thread.start()

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return self._worker.accepting

    async def predict(self, pixels: Pixels, *, deadline: float) -> Prediction:
        """The emotions that a picture evokes.

        Args:
            pixels: ``uint8 [3, S, S]`` with the card's S.
            deadline: a value of `time.monotonic`.

        Raises:
            QueueFull: too many requests wait.
            DeadlinePassed: the deadline passed first.
            EngineStopped: the engine does not run, or stopped meanwhile.
            ModelFailed: the network failed on this picture.
        """
        job = PredictionJob(deadline, pixels=pixels)
        self._worker.submit_prediction(job)
        return await _answer(job)

    async def explain(self, pixels: Pixels, emotion: int | None, *, deadline: float) -> Explanation:
        """What in a picture raises or lowers an emotion; None is the dominant one.

        Takes and raises what `predict` does.
        """
        with self._worker.explanation():
            prediction = await self.predict(pixels, deadline=deadline)
            chosen = int(prediction.probabilities.argmax()) if emotion is None else emotion
            dream = Dream(pixels, chosen, self._checkpoint, DEFAULTS)
            job = DreamJob(deadline, dream=dream)
            self._worker.submit_dream(job)
            finished = await _answer(job)
        return Explanation(
            emotion=chosen,
            prediction=prediction,
            relevance=dream.relevance(),
            dreamed=dream.dreamed(),
            original=pixels,
            rise=dream.rise,
            completeness_error=dream.completeness_error,
            steps=dream.steps_taken,
            queue_seconds=prediction.queue_seconds + finished.queue_seconds,
            infer_seconds=prediction.infer_seconds + finished.infer_seconds,
        )

    async def drain(self, grace: float) -> None:
        """Take nothing more, finish what was accepted, and end the worker.

        What is not finished after `grace` seconds is answered with `EngineStopped`.
        """
        self._worker.stop()
        if self._worker.thread.is_alive():
            await asyncio.to_thread(self._worker.thread.join, grace)
        self._worker.abandon("the service is shutting down")


async def _answer(job: Job[Result]) -> Result:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(loop.time() + job.deadline - job.accepted):
            return await asyncio.wrap_future(job.answer)
    except TimeoutError as error:
        raise DeadlinePassed("the deadline passed before the result was there") from error
