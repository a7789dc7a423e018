"""An engine whose turns the test takes, with a clock that the test moves: nothing depends on time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from app.checkpoint import judging
from app.devices import Device
from app.engine import EngineLimits, Kind, Model
from app.engine.floor import Floor
from app.engine.jobs import DreamJob, PredictionJob
from app.engine.lines import Lines
from app.engine.worker import Worker
from app.explain.dream import DEFAULTS
from app.metrics import Metrics
from tests.tiny import LABELS, SIDE

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from app.checkpoint import Checkpoint
    from app.engine.jobs import Dreamt, Pixels

CPU = Device(torch.device("cpu"))
STEPS = DEFAULTS.evaluations


def coloured(red: int, green: int, blue: int) -> Pixels:
    """A picture of one colour, as the tiny network takes it."""
    colour = np.array([red, green, blue], np.uint8)
    return np.broadcast_to(colour[:, None, None], (3, SIDE, SIDE)).copy()


RED, GREEN, BLUE = coloured(230, 20, 20), coloured(20, 230, 20), coloured(20, 20, 230)
GREY, WHITE, BLACK = coloured(128, 128, 128), coloured(255, 255, 255), coloured(0, 0, 0)


class Torch:
    """Computes as the network itself, and notes the size of each batch.

    Args:
        checkpoint: whose network it is.
        name: in words.
    """

    def __init__(self, checkpoint: Checkpoint, name: str) -> None:
        self.name = name
        self.sizes: list[int] = []
        self._checkpoint = checkpoint

    def __call__(self, pictures: Pixels) -> tuple[torch.Tensor, ...]:
        self.sizes.append(len(pictures))
        return judging(self._checkpoint)(torch.from_numpy(pictures))


def streaming(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint that can be computed in streams."""
    whole, stream = Torch(checkpoint, "with all threads"), Torch(checkpoint, "with one thread")
    return replace(checkpoint, compiled=whole, stream=stream)


@dataclass
class Clock:
    """Monotonic, and standing still until it is moved."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    """Lines and workers without threads, and the batches that were counted.

    Args:
        checkpoint: what answers.
        limits: as keywords of `EngineLimits`.
        count: of devices.
        streams: of each; its workers follow one another in `workers`, the leader first.
    """

    checkpoint: Checkpoint
    limits: EngineLimits = field(default_factory=EngineLimits)
    count: int = 1
    streams: int = 1

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        running = self.count * self.limits.running_on(CPU.torch)
        self.beside = self.before = 0.0
        self.lines = Lines(
            self.limits,
            running,
            self.metrics,
            clock=self.clock,
            beside=lambda: self.beside,
            before=lambda: self.before,
        )
        self.model = self.model_of(self.checkpoint)
        self.floors = [Floor(self.streams) for _ in range(self.count)]
        self.workers = [self.new_worker(number) for number in range(self.count * self.streams)]

    def new_worker(self, number: int) -> Worker:
        """A worker that takes requests, and turns when it is told."""
        device, stream = divmod(number, self.streams)
        worker = Worker(
            device,
            CPU,
            self.lines,
            self.limits,
            self.metrics,
            floor=self.floors[device],
            leads=stream == 0,
        )
        worker.take_requests()
        return worker

    @property
    def worker(self) -> Worker:
        """The first worker, who leads."""
        return self.workers[0]

    def model_of(self, checkpoint: Checkpoint) -> Model:
        """The checkpoint on every device."""
        return Model((checkpoint,) * self.count)

    def deadline(self, seconds: float = 60.0) -> float:
        """So many seconds from now."""
        return self.clock.now + seconds

    def predict(
        self, pixels: Pixels = GREY, seconds: float = 60.0, model: Model | None = None
    ) -> PredictionJob:
        """Submit a prediction; its place is held until the end of the test."""
        self.lines.hold(Kind.PREDICTION, self.deadline(seconds))
        job = PredictionJob(model or self.model, pixels, self.deadline(seconds), self.clock.now)
        self.lines.submit(job)
        return job

    def dream(
        self, pixels: Pixels = GREY, emotion: int = 0, model: Model | None = None, *, layer: str | None = None
    ) -> DreamJob:
        """Submit a dream; its place is held until the end of the test."""
        self.lines.hold(Kind.EXPLANATION, self.deadline())
        job = DreamJob(
            model=model or self.model,
            pixels=pixels,
            deadline=self.deadline(),
            accepted=self.clock.now,
            emotion=emotion,
            settings=DEFAULTS,
            layer=layer,
        )
        self.lines.submit(job)
        return job

    def turns(self, count: int) -> None:
        """Let the first worker take so many turns."""
        for _ in range(count):
            assert self.worker.take_turn()

    def steps(self, count: int) -> None:
        """Let the first worker take so many gradient steps, each of two turns."""
        self.turns(2 * count)

    def finish(self, job: DreamJob) -> Dreamt:
        """Let the first worker take turns until a dream is answered."""
        while not job.answer.done():
            self.turns(1)
        return job.answer.result(0)

    def counted(self, name: str, **labels: str) -> float:
        """A metric's value."""
        return self.metrics.registry.get_sample_value(f"deepemotion_{name}", labels) or 0.0

    def batches(self) -> list[int]:
        """How many batches of predictions had at most so many pictures: one count for each bucket."""
        return [
            int(sample.value)
            for metric in self.metrics.registry.collect()
            for sample in metric.samples
            if sample.name == "deepemotion_batch_size_bucket" and sample.labels["kind"] == "prediction"
        ]


def felt(job: PredictionJob) -> str:
    """The emotion that was predicted."""
    return LABELS[job.answer.result(0).probabilities.argmax()]


def limit_memory(
    monkeypatch: pytest.MonkeyPatch, name: str, kind: type[Exception], sizes: list[int], *, most: int
) -> None:
    """Let a function of the device raise as if memory were out, for more than `most` pictures."""
    module, _, attribute = name.rpartition(".")
    real: Callable[..., object] = getattr(__import__(module, fromlist=[attribute]), attribute)

    def limited(device: object, pictures: list[object]) -> object:
        sizes.append(len(pictures))
        if len(pictures) > most:
            raise kind("DefaultCPUAllocator: can't allocate memory: you tried to allocate 17 bytes")
        return real(device, pictures)

    monkeypatch.setattr(name, limited)
