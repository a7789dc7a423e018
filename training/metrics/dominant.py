"""The dominant emotion: the one that most raters chose, and the one with the largest predicted share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.metrics.pictures import Floats

CLEAR_AGREEMENT = 0.5
"""More than half of the raters chose the same emotion: the seed study's filter."""
_ROUNDING = 1e-5  # shares of a row that sum to 0.999999 make half of the raters more than half
COMMON = 40
"""An emotion with fewer clear pictures is too rare for its share of right answers to say much."""


def is_clear(rated: Floats) -> NDArray[np.bool_]:
    """Where more than half of the raters agreed, ``[N]``."""
    clear: NDArray[np.bool_] = rated.max(axis=1) > CLEAR_AGREEMENT + _ROUNDING
    return clear


def hits(predicted: Floats, rated: Floats) -> Floats:
    """1 where the dominant emotion is right, ``[N]``."""
    return np.asarray(predicted.argmax(axis=1) == rated.argmax(axis=1), dtype=np.float64)


def confusion(predicted: Floats, rated: Floats, weights: Floats | None = None) -> Floats:
    """Pictures by rated (row) and predicted (column) dominant emotion, ``[K, K]``.

    Args:
        predicted: ``[N, K]``.
        rated: ``[N, K]``.
        weights: how often each picture counts, ``[N]``; once without them.
    """
    labels = rated.shape[1]
    cells = rated.argmax(axis=1) * labels + predicted.argmax(axis=1)
    counts = np.bincount(cells, weights=weights, minlength=labels**2)
    return np.asarray(counts, np.float64).reshape(labels, labels)


def accuracy_in(counts: Floats) -> float:
    """Share of right answers in a `confusion`; NaN when it is empty."""
    total = counts.sum()
    return float(np.trace(counts) / total) if total else float("nan")


def recall_in(counts: Floats) -> float:
    """Mean recall over the emotions that are dominant in a rated picture; NaN when there is none."""
    there = counts.sum(axis=1)
    return float((np.diag(counts)[there > 0] / there[there > 0]).mean()) if there.any() else float("nan")


def trials_in(rated: NDArray[np.int64], groups: NDArray[np.int64]) -> float:
    """Groups of a single lot whose share of right answers would vary as the mean recall does.

    A group counts once for each emotion that dominates in it, but all emotions have no more than there are.

    Args:
        rated: dominant emotion of each picture, ``[N]``.
        groups: ``[N]``; pictures with the same number are not independent.
    """
    pairs = np.unique(np.stack([rated, groups]), axis=1)
    there = np.unique(pairs[0], return_counts=True)[1]
    alike = len(there) ** 2 / (1 / there).sum() if len(there) else 0.0
    return float(min(alike, len(np.unique(groups))))


def f1_in(counts: Floats) -> float:
    """Mean over emotions of 2 TP / (2 TP + FP + FN), of those that are rated or predicted dominant."""
    both = counts.sum(axis=0) + counts.sum(axis=1)
    return float((2 * np.diag(counts)[both > 0] / both[both > 0]).mean()) if both.any() else float("nan")


def balanced_accuracy(predicted: Floats, rated: Floats) -> float:
    """Mean recall over the emotions that are dominant in at least one rated picture."""
    return recall_in(confusion(predicted, rated))


def macro_f1(predicted: Floats, rated: Floats) -> float:
    """Mean over emotions of the harmonic mean of precision and recall.

    An emotion that is neither rated nor predicted dominant anywhere does not count; one that is only
    predicted counts as 0.
    """
    return f1_in(confusion(predicted, rated))


def accuracy_when_clear(predicted: Floats, rated: Floats) -> float:
    """Accuracy on the pictures on which more than half of the raters agreed; NaN when there is none."""
    clear = is_clear(rated)
    return float(hits(predicted[clear], rated[clear]).mean()) if clear.any() else float("nan")


def common_labels(rated: Floats, *, at_least: int = COMMON) -> NDArray[np.int64]:
    """The emotions that dominate so many clear pictures at least, as rising indices."""
    clear = rated[is_clear(rated)]
    counts = np.bincount(clear.argmax(axis=1), minlength=rated.shape[1])
    return np.flatnonzero(counts >= at_least)


def clear_and_common(
    predicted: Floats, rated: Floats, common: NDArray[np.int64], weights: Floats | None = None
) -> Floats:
    """The `confusion` of clear pictures whose dominant emotion is one of C common ones, ``[C, C]``.

    The prediction is the common emotion with the largest share, as if there were no others.
    """
    if not len(common):
        return np.zeros((0, 0))
    kept = is_clear(rated) & np.isin(rated.argmax(axis=1), common)
    columns = np.ix_(kept, common)
    return confusion(predicted[columns], rated[columns], None if weights is None else weights[kept])
