"""Pseudo-ratings: what the raters of one set would probably say of the pictures of another.

Rated pictures are few; pictures are not. Several ImageNet networks look at both sets, a last layer on what
they see together learns from the rated ones, and what it predicts of the others is a table of agreement
levels that `fit` can learn from like any other (pseudo-labels: Lee 2013; distillation: Hinton et al. 2015,
arXiv 1503.02531). The rated pictures that it may learn from stand in the table as they were rated; those that
are kept for choosing and for the test do not.
"""

from __future__ import annotations

import csv
import os
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from training.head import HeadFit, extract, fit_head
from training.pictures import RatedPictures, batches

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from training.affective_set import AffectiveSet, Partition
    from training.teacher import Teacher

BATCH = 16


class Panel(nn.Module):
    """Teachers that look together, under one last layer.

    Args:
        teachers: whose pooled features are read side by side.
        labels: K, the number of emotions.
    """

    def __init__(self, teachers: Sequence[Teacher], labels: int) -> None:
        super().__init__()
        self.teachers = nn.ModuleList(teachers)
        self.head = nn.Linear(sum(teacher.channels for teacher in teachers), labels)

    def features(self, pictures: Tensor) -> Tensor:
        """``[N, F]`` of pictures ``[N, 3, H, W]`` in 0..255."""
        return torch.cat([teacher(pictures).mean((2, 3)) for teacher in self.teachers], dim=1)


def learn(
    panel: Panel, rated: AffectiveSet, partition: Partition, *, side: int, device: torch.device
) -> HeadFit:
    """Fit the panel's last layer to the training part, its penalty to the validation part."""
    seen = [_seen(panel, rated, part, side, device) for part in (partition.train, partition.validation)]
    return fit_head(panel.cpu(), *seen)


@torch.no_grad()
def predict(panel: Panel, pictures: AffectiveSet, *, side: int, device: torch.device) -> NDArray[np.float64]:
    """Agreement levels ``[N, K]`` for every picture of a set; its own are not looked at."""
    features, _ = _seen(panel, pictures, np.arange(len(pictures)), side, device)
    shares = torch.softmax(panel.head.cpu()(features).double(), dim=1)
    return np.asarray(shares)


def write_table(
    path: Path, rated: AffectiveSet, partition: Partition, others: AffectiveSet, shares: NDArray[np.float64]
) -> int:
    """Write the table for the source ``cap_d``, and return its number of pictures.

    Pictures are named by their way from the table, so both move together.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    here = path.parent.resolve()
    rows = [(rated.pictures[i], rated.agreement[i]) for i in partition.train]
    rows += zip(others.pictures, shares, strict=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["picture", *rated.labels])
        for picture, levels in rows:
            writer.writerow([os.path.relpath(picture.resolve(), here), *np.round(levels, 6)])
    return len(rows)


def _seen(
    panel: Panel, pictures: AffectiveSet, indices: NDArray[np.int64], side: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    panel.to(device)
    return extract(panel, batches(RatedPictures(pictures, indices, side=side), batch=BATCH), device)
