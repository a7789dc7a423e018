"""Figures that each picture has alone, ``[N]``; a set of pictures has their mean.

The distances are those of label distribution learning (Geng 2016, arXiv 1408.6027, table 1), with p the
predicted and d the rated shares of K emotions. The direction of the divergence is KL(rated || predicted), as
in the Emotion6 literature.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SMALLEST = 1e-12
"""Probabilities are not taken below this, so that a divergence stays finite."""


def kl_divergence(predicted: Floats, rated: Floats) -> Floats:
    """KL(rated || predicted), the sum of d ln(d / p), in nats; 0 ln 0 is 0."""
    ratio = np.log(np.maximum(rated, SMALLEST)) - np.log(np.maximum(predicted, SMALLEST))
    return np.asarray(np.where(rated > 0, rated * ratio, 0.0).sum(axis=1))


def chebyshev(predicted: Floats, rated: Floats) -> Floats:
    """Largest difference of any emotion's share, max |d - p|."""
    return np.asarray(np.abs(predicted - rated).max(axis=1))


def clark(predicted: Floats, rated: Floats) -> Floats:
    """Clark distance over the root of K, sqrt(sum((d - p)² / (d + p)²) / K), so that it lies in 0..1.

    Published in two forms: Geng's has no K and grows with the number of emotions. With it, the figures of
    the Emotion6 literature (about 0.6) would be about 1.6. 0/0 is 0.
    """
    return np.asarray(np.sqrt((_relative(predicted, rated) ** 2).mean(axis=1)))


def canberra(predicted: Floats, rated: Floats) -> Floats:
    """Canberra distance over K, sum(|d - p| / (d + p)) / K, so that it lies in 0..1.

    Published in two forms, as `clark` is: Geng's has no K. 0/0 is 0.
    """
    return np.asarray(_relative(predicted, rated).mean(axis=1))


def _relative(predicted: Floats, rated: Floats) -> Floats:
    both = predicted + rated
    return np.asarray(np.divide(np.abs(predicted - rated), both, out=np.zeros_like(both), where=both > 0))


def cosine(predicted: Floats, rated: Floats) -> Floats:
    """Cosine similarity, d.p / (|d| |p|)."""
    norms = np.linalg.norm(predicted, axis=1) * np.linalg.norm(rated, axis=1)
    return np.asarray((predicted * rated).sum(axis=1) / norms)


def intersection(predicted: Floats, rated: Floats) -> Floats:
    """Shared mass, the sum of the smaller shares."""
    return np.asarray(np.minimum(predicted, rated).sum(axis=1))


def negative_log_likelihood(predicted: Floats, rated: Floats) -> Floats:
    """Minus the log of the share predicted for a rater's choice, the mean over raters: -sum(d ln p), in nats.

    A proper score. It is the divergence plus the entropy of the ratings, which no predictor can change.
    """
    return np.asarray(-(rated * np.log(np.maximum(predicted, SMALLEST))).sum(axis=1))


def brier(predicted: Floats, rated: Floats) -> Floats:
    """Squared distance from a rater's choice, the mean over raters: sum(p²) - 2 sum(d p) + 1, in 0..2.

    The proper score of Brier 1950, in its original form for several classes, where each rater's choice is
    one outcome.
    """
    return np.asarray((predicted**2).sum(axis=1) - 2 * (predicted * rated).sum(axis=1) + 1)
