"""What the engine is asked for, and what it answers."""

from __future__ import annotations

from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.explain.dream import Dream, DreamSettings

if TYPE_CHECKING:
    from app.checkpoint import Checkpoint
    from app.engine.model import Model

Pixels = NDArray[np.uint8]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Prediction:
    """The emotions that a picture evokes.

    Attributes:
        probabilities: ``[K]`` in the order of the card's labels; they sum to 1.
        queue_seconds: from the request to the batch that it was in.
        infer_seconds: what that batch took.
        novelty: how far the picture is from those that the network learned from; None if it cannot tell.
    """

    probabilities: NDArray[np.float64]
    queue_seconds: float
    infer_seconds: float
    novelty: float | None = None


@dataclass(frozen=True)
class Dreamt:
    """A dream that is over.

    Attributes:
        relevance: ``[S, S]``, signed, in units of the log-odds; its sum is about `rise`.
        dreamed: ``[3, S, S]`` in 0..255, the picture after the dream.
        rise: of the emotion's log-odds along the dream's path.
        completeness_error: how far the relevance's sum is from `rise`, as a share of it.
        imbalance: by how much what raises and what lowers were weighed against each other to get there.
        steps: gradients that were computed.
        queue_seconds: from the request to the first step.
        infer_seconds: time spent on the device, shared batches counted in full.
    """

    relevance: NDArray[np.float32]
    dreamed: NDArray[np.float32]
    rise: float
    completeness_error: float
    imbalance: float
    steps: int
    queue_seconds: float
    infer_seconds: float


@dataclass(frozen=True)
class Explanation:
    """What in a picture raises or lowers one emotion.

    Attributes:
        emotion: index of the emotion in the card's labels.
        layer: the inner layer that the map is of; None if it is of the emotion.
        prediction: of the picture as it is.
        original: ``[3, S, S]``, the picture before the dream.
        relevance, dreamed, rise, completeness_error, imbalance, steps: see `Dreamt`.
        queue_seconds: time spent waiting, for the prediction and for the dream.
        infer_seconds: time spent on the device, shared batches counted in full.
    """

    emotion: int
    prediction: Prediction
    relevance: NDArray[np.float32]
    dreamed: NDArray[np.float32]
    original: Pixels
    rise: float
    completeness_error: float
    imbalance: float
    steps: int
    queue_seconds: float
    infer_seconds: float
    layer: str | None = None


@dataclass(eq=False)
class Job(Generic[Result]):
    """One accepted request. Its future may be cancelled at any time by whoever waits for it.

    Attributes:
        model: what answers it.
        pixels: ``uint8 [3, S, S]`` with the card's S.
        deadline: by the engine's clock; later, nobody waits any more.
        accepted: when it was handed over, by the same clock.
    """

    model: Model
    pixels: Pixels
    deadline: float
    accepted: float
    answer: Future[Result] = field(default_factory=Future)

    def wanted(self, now: float) -> bool:
        """Whether anybody still waits for the result."""
        return not self.answer.done() and now < self.deadline

    def succeed(self, result: Result) -> None:
        """Hand over the result, unless nobody waits any more."""
        with suppress(InvalidStateError):  # the client may leave in this very moment
            self.answer.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Hand over an error, unless nobody waits any more."""
        with suppress(InvalidStateError):
            self.answer.set_exception(error)


@dataclass(eq=False)
class PredictionJob(Job[Prediction]):
    """A picture to predict."""


@dataclass(eq=False, kw_only=True)
class DreamJob(Job[Dreamt]):
    """A dream to be carried through step by step.

    Attributes:
        emotion: index in the card's labels.
        settings: how far and how finely to dream.
        layer: the inner layer to dream of instead of the emotion.
        started: when the first step began.
        infer_seconds: time spent on the device so far.
    """

    emotion: int
    settings: DreamSettings
    layer: str | None = None
    started: float | None = None
    infer_seconds: float = 0.0
    _dream: Dream | None = None

    def begin_on(self, copy: Checkpoint, now: float) -> None:
        """Bind the dream to the device that will carry it through."""
        self._dream = Dream(self.pixels, self.emotion, copy, self.settings, self.layer)
        self.started = now

    @property
    def dream(self) -> Dream:
        """The dream, once it has begun."""
        if self._dream is None:
            raise RuntimeError("the dream has not begun")
        return self._dream

    def result(self) -> Dreamt:
        """What the dream gave; reads from the device, so it is for the device's owner to call."""
        return Dreamt(
            relevance=self.dream.relevance(),
            dreamed=self.dream.dreamed(),
            rise=self.dream.rise,
            completeness_error=self.dream.completeness_error,
            imbalance=self.dream.imbalance,
            steps=self.dream.steps_taken,
            queue_seconds=0.0 if self.started is None else self.started - self.accepted,
            infer_seconds=self.infer_seconds,
        )
