"""The one owner of the device: continuous batching without a timer.

Each turn takes whatever waits. Predictions go first, up to the largest batch; only when none waits does one
gradient step of the running dreams get its turn. So an idle engine answers at once, a busy one fills its
batches by itself, and a prediction waits for one gradient step at most.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from app.engine.errors import EngineStopped, ModelFailed, QueueFull
from app.engine.jobs import DreamJob, Job, Prediction, PredictionJob
from app.explain.dream import DEFAULTS, Dream, take_step

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from app.checkpoint import Checkpoint

log = logging.getLogger(__name__)

_CLOSED = "the engine takes no requests now"
_MEMORY = 0.2
"""Weight of the newest batch in the running mean of the time a picture takes."""


@dataclass(frozen=True)
class EngineLimits:
    """What bounds the engine.

    Attributes:
        max_batch: pictures in one forward pass.
        max_predictions: predictions that may wait.
        max_explanations: explanations that may wait, besides those that run.
        running_explanations: dreams that share gradient steps; None is 1 on a CPU and 8 on a GPU.
    """

    max_batch: int = 8
    max_predictions: int = 128
    max_explanations: int = 16
    running_explanations: int | None = None

    def running_on(self, device: torch.device) -> int:
        """Dreams that share gradient steps on this device.

        A CPU gains nothing from sharing: the step would only take as long as its parts one by one, and every
        prediction would wait for all of it.
        """
        if self.running_explanations is not None:
            return self.running_explanations
        return 1 if device.type == "cpu" else 8


class Worker:
    """A thread with two bounded queues in front of it. Only `take_turn`, its own, touches the device."""

    def __init__(self, checkpoint: Checkpoint, limits: EngineLimits) -> None:
        self._checkpoint = checkpoint
        self._limits = limits
        self._max_batch = limits.max_batch
        self._max_running = limits.running_on(checkpoint.device)
        self._turn = threading.Condition()
        self._predictions: deque[PredictionJob] = deque()
        self._dreams: deque[DreamJob] = deque()
        self._running: list[DreamJob] = []
        self._accepting = False
        self._stopping = False
        self._given_up = False
        self._explanations = 0
        self._pace = {PredictionJob: 0.1, DreamJob: 1.0}  # seconds for one, until the first are done
        self.thread = threading.Thread(target=self._live, name="engine", daemon=True)

    @property
    def accepting(self) -> bool:
        """Whether requests are taken: warmed up, and neither stopping nor failed."""
        return self._accepting

    def submit_prediction(self, job: PredictionJob) -> None:
        """Queue a prediction.

        Raises:
            QueueFull: as many wait as may wait.
            EngineStopped: nothing is taken now.
        """
        with self._turn:
            if not self._accepting:
                raise EngineStopped(_CLOSED)
            if len(self._predictions) >= self._limits.max_predictions:
                # Those whose clients have left make room at once, not when their turn comes.
                self._predictions = deque(waiting for waiting in self._predictions if waiting.wanted)
            if (waiting := len(self._predictions)) >= self._limits.max_predictions:
                raise QueueFull(f"{waiting} predictions wait already", waiting * self._pace[PredictionJob])
            self._predictions.append(job)
            self._turn.notify()

    @contextmanager
    def explanation(self) -> Iterator[None]:
        """Hold the place of one explanation, from before its prediction until after its dream.

        Its dream is then taken even if the worker has been told to stop meanwhile.

        Raises:
            QueueFull: as many are held as may run and wait.
            EngineStopped: nothing is taken now.
        """
        with self._turn:
            if not self._accepting:
                raise EngineStopped(_CLOSED)
            if (held := self._explanations) >= self._max_running + self._limits.max_explanations:
                raise QueueFull(f"{held} explanations are under way already", held * self._pace[DreamJob])
            self._explanations += 1
        try:
            yield
        finally:
            with self._turn:
                self._explanations -= 1
                self._turn.notify()

    def submit_dream(self, job: DreamJob) -> None:
        """Queue the dream of an explanation that holds a place.

        Raises:
            EngineStopped: what was accepted has been given up.
        """
        with self._turn:
            if self._given_up:
                raise EngineStopped(_CLOSED)
            self._dreams.append(job)
            self._turn.notify()

    def open(self) -> None:
        """Take requests from now on, unless it was stopped already."""
        with self._turn:
            self._accepting = not self._stopping

    def stop(self) -> None:
        """Take nothing more; the thread ends when everything that was accepted is answered."""
        with self._turn:
            self._accepting = False
            self._stopping = True
            self._turn.notify()

    def abandon(self, reason: str) -> None:
        """Answer everything that still waits with `EngineStopped`, and let the thread end."""
        with self._turn:
            self._accepting = False
            self._stopping = self._given_up = True
            left: list[Job[Prediction] | Job[DreamJob]] = [*self._predictions, *self._dreams, *self._running]
            self._predictions.clear()
            self._dreams.clear()
            self._running.clear()
            self._turn.notify()
        for job in left:
            job.fail(EngineStopped(reason))

    def _live(self) -> None:
        try:
            self._warm_up()
            self.open()
            while self.take_turn():
                pass
        except BaseException:
            log.exception("the engine failed")
            self.abandon("the engine failed")
            raise

    def take_turn(self) -> bool:
        """Wait for work and do one piece of it; false when there will be no more.

        The thread does nothing else. Whoever has not started it may take the turns himself.
        """
        with self._turn:
            while not (self._predictions or self._dreams or self._running):
                if self._stopping and (self._given_up or not self._explanations):
                    return False
                self._turn.wait()
            batch = self._next_predictions()
            if not batch:
                self._admit_dreams()
            running = list(self._running)
        if batch:
            self._predict(batch)
        elif running:
            self._step(running)
        return True

    def _next_predictions(self) -> list[PredictionJob]:
        batch: list[PredictionJob] = []
        while self._predictions and len(batch) < self._max_batch:
            if (job := self._predictions.popleft()).wanted:
                batch.append(job)
        return batch

    def _admit_dreams(self) -> None:
        self._running = [job for job in self._running if job.wanted]
        while self._dreams and len(self._running) < self._max_running:
            if (job := self._dreams.popleft()).wanted:
                self._running.append(job)

    def _predict(self, batch: Sequence[PredictionJob]) -> None:
        began = time.monotonic()
        try:
            probabilities = self._probabilities(np.stack([job.pixels for job in batch]))
        except Exception as error:  # noqa: BLE001 - whatever a network raises on a picture
            self._predict_in_halves(batch, error)
            return
        seconds = time.monotonic() - began
        self._learn_pace(PredictionJob, seconds / len(batch))
        for job, row in zip(batch, probabilities, strict=True):
            if np.isfinite(row).all():
                job.succeed(Prediction(row, began - job.accepted, seconds))
            else:
                job.fail(ModelFailed("the network's answer to this picture is not a number"))

    def _predict_in_halves(self, batch: Sequence[PredictionJob], error: Exception) -> None:
        """Too large a batch fits in halves, and a picture that the network fails on fails alone."""
        if len(batch) == 1:
            log.error("the network failed on a picture", exc_info=error)
            batch[0].fail(ModelFailed("the network failed on this picture"))
            return
        half = len(batch) // 2
        if isinstance(error, torch.OutOfMemoryError):
            self._max_batch = max(1, half)
            log.warning("out of memory with %d pictures; from now on %d a batch", len(batch), self._max_batch)
        self._predict(batch[:half])
        self._predict(batch[half:])

    @torch.inference_mode()
    def _probabilities(self, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        inputs = torch.from_numpy(pictures).to(self._checkpoint.device, memory_format=torch.channels_last)
        logits = self._checkpoint.network(inputs).double() / self._checkpoint.card.temperature
        return np.asarray(torch.softmax(logits, dim=1).cpu())

    def _step(self, running: Sequence[DreamJob]) -> None:
        """One gradient step for the dreams that are at the same size as the one that waits longest."""
        side = running[0].dream.side
        batch = [job for job in running if job.dream.side == side]
        began = time.monotonic()
        for job in batch:
            job.started = job.started or began
        try:
            take_step(self._checkpoint.network, [job.dream for job in batch])
        except Exception as error:  # noqa: BLE001 - as in `_predict`
            self._step_failed(batch, error)
            return
        seconds = time.monotonic() - began
        for job in batch:
            job.infer_seconds += seconds
            if job.dream.done:
                self._learn_pace(DreamJob, job.infer_seconds / len(batch))
                job.succeed(job)
        self._leave([job for job in batch if job.dream.done])

    def _step_failed(self, batch: Sequence[DreamJob], error: Exception) -> None:
        """Alone, a dream that fails is given up; together, each gets its next step alone."""
        if len(batch) > 1:
            for job in batch:
                self._step([job])
            return
        log.error("a gradient step failed", exc_info=error)
        batch[0].fail(ModelFailed("the network failed while explaining this picture"))
        self._leave(batch)

    def _leave(self, finished: Sequence[DreamJob]) -> None:
        with self._turn:
            self._running = [job for job in self._running if job not in finished]

    def _learn_pace(self, kind: type, seconds: float) -> None:
        self._pace[kind] += _MEMORY * (seconds - self._pace[kind])

    def _warm_up(self) -> None:
        """Let the network run once at every batch size and dream size, so that no request pays for it."""
        side = self._checkpoint.card.input_size
        for _ in range(2):  # TorchScript specialises its graph on the second run
            self._probabilities(np.zeros((1, 3, side, side), np.uint8))
        dream = Dream(np.zeros((3, side, side), np.uint8), 0, self._checkpoint, DEFAULTS)
        while not dream.done:
            take_step(self._checkpoint.network, [dream])
