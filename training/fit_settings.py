"""Everything that a training run depends on besides its pictures."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from app.card import SMALLEST_SIDE
from training import pretrained
from training.augment import DEFAULT as DEFAULT_AUGMENTATIONS
from training.inception import LAST_BLOCK

if TYPE_CHECKING:
    from collections.abc import Mapping

Precision = Literal["float32", "bfloat16"]


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Convolutions of this precision for what runs inside."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


class FitError(Exception):
    """Training cannot go on; the message says why."""


ANY = 0, sys.float_info.max
"""The range of what may be any number that is not negative."""
SHARE = 0, 1
LESS_THAN_ALL = 0, math.nextafter(1, 0)
SEED = 0, 2**32 - 1
"""What scikit-learn takes, which divides the pictures."""


def check_ranges(settings: object, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Make sure that settings are numbers that mean something.

    Args:
        settings: with the attributes that `ranges` names.
        ranges: the smallest and the largest value of each.

    Raises:
        FitError: one of them is out of its range, or is no number.
    """
    for name, (least, most) in ranges.items():
        value = getattr(settings, name)
        if not least <= value <= most:  # nor is it between them if it is no number
            upper = {ANY[1]: "", LESS_THAN_ALL[1]: " and below 1"}.get(most, f" and at most {most}")
            option = name.replace("_", "-")
            raise FitError(
                f"--{option} {value:g} is out of range: it must be a number of at least {least}{upper}"
            )


@dataclass(frozen=True)
class FitSettings:
    """Everything that a run depends on besides its pictures.

    Attributes:
        target: learn the raters' whole distribution, or only their most frequent choice.
        weights: ``torchvision``, a ``.safetensors`` file of start weights or of an earlier run, or a
            checkpoint (``.pt``).
        reads: Mixed blocks that the last layer reads.
        side: of the square input, in pixels.
        head_pictures: at most so many pictures for phase one; 0 for all.
        epochs: of phase two; 0 leaves the head alone.
        rate: of the last layer in phase two, at its highest.
        layer_decay: each block's rate is that of the block after it, times this.
        batch: pictures in a step.
        frozen: this block and those below it keep their start weights, and no gradient is computed for them;
            none by default.
        weight_decay: of AdamW.
        dropout: share of the pooled features dropped in phase two.
        augment: names from `training.augment`.
        teacher: a file that ``python -m training teacher`` made, whose features phase two imitates; none by
            default.
        teacher_weight: of the imitation beside the cross-entropy.
        teacher_share: of the target that is the teacher's opinion of the very same augmented picture, instead
            of the label; its teacher must have been fine-tuned (`training.tune`).
        mixup: strength of blending two pictures and their targets in phase two (Zhang et al. 2018, arXiv
            1710.09412): both parameters of the beta distribution; 0 blends nothing.
        precision: of the convolutions while training. ``bfloat16`` takes a third of the time on processors
            that have units for it (AMX, recent GPUs); weights and optimiser stay in single precision.
        seed: of everything random.
    """

    target: Literal["distribution", "class"] = "distribution"
    weights: str = pretrained.TORCHVISION
    reads: tuple[str, ...] = LAST_BLOCK
    side: int = 299
    head_pictures: int = 0
    epochs: int = 8
    rate: float = 1e-4
    layer_decay: float = 0.9
    batch: int = 16
    frozen: str = ""
    weight_decay: float = 0.05
    dropout: float = 0.5
    augment: tuple[str, ...] = DEFAULT_AUGMENTATIONS
    teacher: str = ""
    teacher_weight: float = 1.0
    teacher_share: float = 0.0
    mixup: float = 0.0
    precision: Precision = "float32"
    seed: int = 1

    def __post_init__(self) -> None:
        if self.side < SMALLEST_SIDE:
            raise FitError(
                f"a side of {self.side} is below {SMALLEST_SIDE}, the least that Inception-V3 takes"
            )
        check_ranges(self, _RANGES)


_RANGES = {
    "head_pictures": ANY,
    "epochs": ANY,
    "rate": ANY,
    "layer_decay": SHARE,
    "batch": (1, ANY[1]),
    "weight_decay": ANY,
    "dropout": LESS_THAN_ALL,
    "teacher_weight": ANY,
    "teacher_share": SHARE,
    "mixup": ANY,
    "seed": SEED,
}
