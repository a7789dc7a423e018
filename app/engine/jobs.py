"""What the engine is asked for, and what it answers."""

from __future__ import annotations

import time
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from app.explain.dream import Dream

Pixels = NDArray[np.uint8]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Prediction:
    """The emotions that a picture evokes.

    Attributes:
        probabilities: ``[K]`` in the order of the card's labels; they sum to 1.
        queue_seconds: from the request to the batch that it was in.
        infer_seconds: what that batch took.
    """

    probabilities: NDArray[np.float64]
    queue_seconds: float
    infer_seconds: float


@dataclass(frozen=True)
class Explanation:
    """What in a picture raises or lowers one emotion.

    Attributes:
        emotion: index of the emotion in the card's labels.
        prediction: of the picture as it is.
        relevance: ``[S, S]``, signed, in units of the log-odds; its sum is about `rise`.
        dreamed: ``[3, S, S]`` in 0..255, the picture after the dream.
        original: ``[3, S, S]``, the picture before it.
        rise: of the emotion's log-odds along the dream's path.
        completeness_error: how far the relevance's sum is from `rise`, as a share of it.
        steps: gradients that were computed.
        queue_seconds: time spent waiting.
        infer_seconds: time spent on the device, shared batches counted in full.
    """

    emotion: int
    prediction: Prediction
    relevance: NDArray[np.float32]
    dreamed: NDArray[np.float32]
    original: Pixels
    rise: float
    completeness_error: float
    steps: int
    queue_seconds: float
    infer_seconds: float


@dataclass(eq=False)
class Job(Generic[Result]):
    """One accepted request. Its future may be cancelled at any time by whoever waits for it."""

    deadline: float
    accepted: float = field(default_factory=time.monotonic)
    answer: Future[Result] = field(default_factory=Future)

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits for the result."""
        return not self.answer.done() and time.monotonic() < self.deadline

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
    """A picture ``uint8 [3, S, S]`` to predict."""

    pixels: Pixels = field(kw_only=True)


@dataclass(eq=False)
class DreamJob(Job["DreamJob"]):
    """A dream to be carried through step by step; the job itself is the answer when the dream is over."""

    dream: Dream = field(kw_only=True)
    started: float | None = None
    infer_seconds: float = 0.0

    @property
    def queue_seconds(self) -> float:
        """From the request to the first step."""
        return 0.0 if self.started is None else self.started - self.accepted
