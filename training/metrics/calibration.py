"""Whether a predicted share is the share that raters give: reliability, and calibration errors.

A predicted share says how many raters are expected to choose the emotion, so it is held against the share
that did. With one label a picture these are the usual figures of classification.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from app.card import ReliabilityBin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from training.metrics.pictures import Floats

BINS = 15


@dataclass(frozen=True, eq=False)
class Binned:
    """N predicted shares in bins of equal width, with the rated shares that belong to them.

    Attributes:
        confidence: predicted shares ``[N]``.
        share: rated ones ``[N]``.
        which: bin of each, ``[N]``; a full share is in the last bin.
        bins: their number.
    """

    confidence: Floats
    share: Floats
    which: NDArray[np.int64]
    bins: int

    def sums(self, weights: Floats | None = None) -> tuple[Floats, Floats, Floats]:
        """Of each bin ``[B]``: its number of shares, and the sums of the predicted and of the rated ones."""
        weights = np.ones(len(self.which)) if weights is None else weights
        values = (weights, weights * self.confidence, weights * self.share)
        found = [
            np.asarray(np.bincount(self.which, weights=value, minlength=self.bins), np.float64)
            for value in values
        ]
        return found[0], found[1], found[2]

    def error(self, weights: Floats | None = None) -> float:
        """Mean over bins, weighted by their counts, of the gap between predicted and rated mean share."""
        counts, predicted, rated = self.sums(weights)
        return float(np.abs(rated - predicted).sum() / counts.sum())


def binned(confidence: Floats, share: Floats, bins: int) -> Binned:
    """Sort N predicted shares into bins ``[b / B, (b + 1) / B)``."""
    return Binned(confidence, share, np.minimum((confidence * bins).astype(np.int64), bins - 1), bins)


def of_dominant(predicted: Floats, rated: Floats, bins: int = BINS) -> Binned:
    """The share predicted for each picture's predicted dominant emotion."""
    chosen = predicted.argmax(axis=1)
    rows = np.arange(len(rated))
    return binned(predicted[rows, chosen], rated[rows, chosen], bins)


def of_each_emotion(predicted: Floats, rated: Floats, bins: int = BINS) -> list[Binned]:
    """The shares predicted for each of K emotions, whether dominant or not."""
    return [binned(predicted[:, k], rated[:, k], bins) for k in range(rated.shape[1])]


def calibration_error(predicted: Floats, rated: Floats, *, bins: int = BINS) -> float:
    """Expected calibration error of the predicted dominant emotion, over bins of confidence.

    With one label a picture this is Guo et al. 2017, arXiv 1706.04599, eq. 3.
    """
    return of_dominant(predicted, rated, bins).error()


def classwise_calibration_error(predicted: Floats, rated: Floats, *, bins: int = BINS) -> float:
    """The same for every predicted share of an emotion, the mean over emotions.

    Static calibration error of Nixon et al. 2019, arXiv 1904.01685, eq. 3; classwise-ECE of Kull et al.
    2019, arXiv 1910.12656.
    """
    return float(np.mean([each.error() for each in of_each_emotion(predicted, rated, bins)]))


def reliability(predicted: Floats, rated: Floats, *, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """The bins of `calibration_error` that are not empty, from the least confident up."""
    return _points(of_dominant(predicted, rated, bins))


def reliability_by_emotion(
    predicted: Floats, rated: Floats, labels: Sequence[str], *, bins: int = BINS
) -> dict[str, tuple[ReliabilityBin, ...]]:
    """The bins of `classwise_calibration_error` that are not empty, by emotion."""
    each = of_each_emotion(predicted, rated, bins)
    return {label: _points(shares) for label, shares in zip(labels, each, strict=True)}


def _points(shares: Binned) -> tuple[ReliabilityBin, ...]:
    counts, predicted, rated = shares.sums()
    return tuple(
        ReliabilityBin(
            low=place / shares.bins,
            high=(place + 1) / shares.bins,
            confidence=predicted[place] / counts[place],
            rated=rated[place] / counts[place],
            count=int(counts[place]),
        )
        for place in np.flatnonzero(counts)
    )
