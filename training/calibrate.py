"""Temperature scaling (Guo et al. 2017, arXiv 1706.04599): one number that makes confidence honest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

if TYPE_CHECKING:
    from training.metrics import Floats

COLDEST, HOTTEST = 0.2, 10.0


def fit_temperature(logits: Floats, rated: Floats) -> float:
    """The temperature that minimises the cross-entropy of ``softmax(logits / T)`` to the raters' shares.

    Args:
        logits: ``[N, K]``, of pictures that were not trained on.
        rated: ``[N, K]``, rows sum to 1.
    """

    def cross_entropy(log_temperature: float) -> float:
        return float(-(rated * log_softmax(logits / np.exp(log_temperature), axis=1)).sum(axis=1).mean())

    found = minimize_scalar(cross_entropy, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x))
