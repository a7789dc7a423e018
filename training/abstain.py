"""When a prediction should not be relied on: thresholds that flag a known share of usual pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import entr

from app.card import Abstain

if TYPE_CHECKING:
    from training.metrics import Floats

SHARE = 0.02


def thresholds(predicted: Floats, novelty: Floats, *, share: float = SHARE) -> Abstain:
    """The entropy and the novelty that this share of held-out pictures is above.

    Args:
        predicted: ``[N, K]`` calibrated distributions of pictures that were not trained on.
        novelty: ``[N]`` of the same pictures.
        share: of them that each threshold flags.
    """
    entropy = entr(predicted).sum(axis=1)
    return Abstain(
        entropy=float(np.quantile(entropy, 1 - share)),
        novelty=float(np.quantile(novelty, 1 - share)),
        share=share,
    )
