"""A network in half precision, for which GPUs have units of their own.

Convolutions and the last layer compute in half precision, what sums up many numbers in single precision
(PyTorch's autocast says which). The weights stay as they are: explanations need them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from app.captured import Judging

HALF_SUFFIX = ".float16.json"
"""Beside a checkpoint: `app.card.Quantised`, what half precision changes. ``training halve`` writes it."""


def in_half(judging: Judging, device: torch.device) -> Judging:
    """The same judgement of pictures on a device, computed in half precision; answers are single again."""

    def judged(pictures: torch.Tensor) -> tuple[torch.Tensor, ...]:
        # Casts are not kept: a CUDA graph would go on to read them after they are gone.
        with torch.autocast(device.type, torch.float16, cache_enabled=False):
            answers = judging(pictures)
        return tuple(answer.float() for answer in answers)

    return judged
