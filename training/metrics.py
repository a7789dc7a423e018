"""How well predicted distributions of emotions match the raters', with intervals and reference levels.

Every function takes ``predicted`` and ``rated``, both ``[N, K]`` with rows that sum to 1. The distribution
measures are those of label distribution learning (Geng 2016, arXiv 1408.6027, table 1); the direction of
the divergence is KL(rated || predicted), as in the Emotion6 literature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from app.checkpoint import Score

if TYPE_CHECKING:
    from collections.abc import Callable

Floats = NDArray[np.float64]

SMALLEST = 1e-12
"""Probabilities are not taken below this, so that a divergence stays finite."""
CLEAR_AGREEMENT = 0.5
"""More than half of the raters chose the same emotion: the seed study's filter."""
BINS = 15
RESAMPLES = 2000


def kl_divergence(predicted: Floats, rated: Floats) -> Floats:
    """KL(rated || predicted) in nats, ``[N]``; 0 log 0 is 0."""
    ratio = np.log(np.maximum(rated, SMALLEST)) - np.log(np.maximum(predicted, SMALLEST))
    return np.asarray(np.where(rated > 0, rated * ratio, 0.0).sum(axis=1))


def chebyshev(predicted: Floats, rated: Floats) -> Floats:
    """Largest difference of any emotion's share, ``[N]``."""
    return np.asarray(np.abs(predicted - rated).max(axis=1))


def cosine(predicted: Floats, rated: Floats) -> Floats:
    """Cosine similarity, ``[N]``."""
    norms = np.linalg.norm(predicted, axis=1) * np.linalg.norm(rated, axis=1)
    return np.asarray((predicted * rated).sum(axis=1) / norms)


def intersection(predicted: Floats, rated: Floats) -> Floats:
    """Shared mass, the sum of the smaller shares, ``[N]``."""
    return np.asarray(np.minimum(predicted, rated).sum(axis=1))


def hits(predicted: Floats, rated: Floats) -> Floats:
    """1 where the dominant emotion is right, ``[N]``."""
    return np.asarray(predicted.argmax(axis=1) == rated.argmax(axis=1), dtype=np.float64)


def balanced_accuracy(predicted: Floats, rated: Floats) -> float:
    """Mean recall over the emotions that are dominant in at least one rated picture."""
    truth, right = rated.argmax(axis=1), hits(predicted, rated)
    return float(np.mean([right[truth == label].mean() for label in np.unique(truth)]))


def calibration_error(predicted: Floats, rated: Floats, *, bins: int = BINS) -> float:
    """Expected calibration error of the predicted dominant emotion, over bins of confidence.

    Confidence in an emotion is the share of raters that is expected to choose it, so it is held against the
    share that did. With one label a picture this is Guo et al. 2017, arXiv 1706.04599, eq. 3.
    """
    confidence = predicted.max(axis=1)
    right = rated[np.arange(len(rated)), predicted.argmax(axis=1)]
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(right[which == b].mean() - confidence[which == b].mean()) * np.mean(which == b)
        for b in np.unique(which)
    ]
    return float(np.sum(gaps))


def accuracy_when_clear(predicted: Floats, rated: Floats) -> float:
    """Accuracy on the pictures on which more than half of the raters agreed; NaN when there is none."""
    clear = rated.max(axis=1) > CLEAR_AGREEMENT
    return float(hits(predicted, rated)[clear].mean()) if clear.any() else float("nan")


def measure(predicted: Floats, rated: Floats) -> dict[str, float]:
    """Every figure of the card by its name."""
    return {
        "accuracy": float(hits(predicted, rated).mean()),
        "accuracy_when_clear": accuracy_when_clear(predicted, rated),
        "balanced_accuracy": balanced_accuracy(predicted, rated),
        "kl": float(kl_divergence(predicted, rated).mean()),
        "chebyshev": float(chebyshev(predicted, rated).mean()),
        "cosine": float(cosine(predicted, rated).mean()),
        "intersection": float(intersection(predicted, rated).mean()),
        "calibration_error": calibration_error(predicted, rated),
    }


def measure_with_intervals(
    predicted: Floats, rated: Floats, *, seed: int, resamples: int = RESAMPLES
) -> dict[str, Score]:
    """`measure` with 95 % percentile bootstrap intervals over pictures."""
    rng = np.random.default_rng(seed)
    draws: dict[str, list[float]] = {}
    for _ in range(resamples):
        picked = rng.integers(0, len(rated), len(rated))
        for name, value in measure(predicted[picked], rated[picked]).items():
            draws.setdefault(name, []).append(value)
    scores = {}
    for name, value in measure(predicted, rated).items():
        low, high = np.nanpercentile(draws[name], [2.5, 97.5]) if np.isfinite(value) else (value, value)
        scores[name] = Score(value=value, low=float(low), high=float(high))
    return {name: score for name, score in scores.items() if np.isfinite(score.value)}


def reference_levels(
    trained_on: Floats, rated: Floats, raters: Floats | None, *, seed: int
) -> dict[str, dict[str, float]]:
    """What predictors without eyes reach on the same pictures, and what the raters themselves would.

    ``chance`` is the uniform distribution, ``majority`` always the most common dominant emotion of the
    training pictures, ``mean`` their mean distribution. ``raters`` scores each picture's true distribution
    against as many votes drawn from it as the picture had: the noise floor that no predictor passes.

    Args:
        trained_on: agreement levels of the training pictures, ``[M, K]``.
        rated: agreement levels of the scored pictures, ``[N, K]``.
        raters: votes per scored picture, ``[N]``; without it the floor is left out.
        seed: of the drawn votes.
    """
    count, labels = rated.shape
    majority = np.bincount(trained_on.argmax(axis=1), minlength=labels).argmax()
    constant: dict[str, Callable[[], Floats]] = {
        "chance": lambda: np.full(labels, 1 / labels),
        "majority": lambda: np.eye(labels)[majority],
        "mean": lambda: trained_on.mean(axis=0),
    }
    levels = {name: measure(np.tile(make(), (count, 1)), rated) for name, make in constant.items()}
    levels["chance"]["accuracy"] = levels["chance"]["balanced_accuracy"] = 1 / labels
    levels["chance"].pop("accuracy_when_clear")
    levels["chance"].pop("calibration_error")
    if raters is not None:
        rng = np.random.default_rng(seed)
        counts = np.maximum(np.rint(raters).astype(int), 1)
        votes = rng.multinomial(counts, rated) / counts[:, None]
        levels["raters"] = measure(rated, votes)
    return {
        name: {key: value for key, value in level.items() if np.isfinite(value)}
        for name, level in levels.items()
    }
