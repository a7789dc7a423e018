"""Weighing what speaks for an emotion against what speaks against it, until their sum is right.

A few trapezoids cannot follow a network's gradient: their sum misses the rise of the log-odds, often by a
third of it. But the rise is a small difference of two large sums, of the pixels that raise the emotion and of
those that lower it, so a change of both by a percent or so puts it right.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_WEIGHT = 2.0
"""By how much one side may be weighed up or down. What needs more is an error, and stays one."""
_NOTHING = 1e-12


def balanced(relevance: Tensor, rise: float) -> tuple[Tensor, float]:
    """Multiply what raises by c and divide what lowers by c, so that the sum becomes `rise`.

    No sign changes, and no pixel gains on another of the same sign.

    Returns:
        The relevance, and the larger of c and 1 / c less 1: by how much each side had to change.
    """
    raises = float(relevance.clamp(min=0).sum(dtype=torch.float64))
    lowers = -float(relevance.clamp(max=0).sum(dtype=torch.float64))
    if raises <= _NOTHING or lowers <= _NOTHING:
        return relevance, 0.0
    # The positive root of c * raises - lowers / c = rise.
    c = (rise + math.sqrt(rise**2 + 4 * raises * lowers)) / (2 * raises)
    c = min(max(c, 1 / LARGEST_WEIGHT), LARGEST_WEIGHT)
    return torch.where(relevance > 0, relevance * c, relevance / c), max(c, 1 / c) - 1
