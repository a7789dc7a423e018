from __future__ import annotations

import csv
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.training.colours import LABELS, SIDE, colour_set, draw_folder, parts
from training.pseudo_rate import Panel, learn, predict, write_table
from training.sources import SourceOptions, load
from training.teacher import Teacher

if TYPE_CHECKING:
    from pathlib import Path

    from training.affective_set import AffectiveSet, Partition

CPU = torch.device("cpu")


class Colours(nn.Module):
    """A network that sees nothing but the colours of the quarters of a picture."""

    def forward_features(self, pictures: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(pictures, 2)


@pytest.fixture
def panel() -> Panel:
    teachers = [Teacher(Colours(), 3, mean=(mean,) * 3, std=(0.1,) * 3) for mean in (0.0, 0.5)]
    return Panel(teachers, len(LABELS))


@pytest.fixture
def rated(colour_folder: Path) -> AffectiveSet:
    return colour_set(colour_folder)


@pytest.fixture
def partition(rated: AffectiveSet) -> Partition:
    return parts(rated, train=6, validation=2)


def test_pictures_that_nobody_rated_get_what_the_raters_would_say(
    panel: Panel, rated: AffectiveSet, partition: Partition, tmp_path: Path
) -> None:
    others = colour_set(draw_folder(tmp_path / "others"), agreement=1.0)
    truth = others.dominant
    found = learn(panel, rated, partition, side=SIDE, device=CPU)
    assert found.validation_loss < 0.8  # chance is 1.1
    blank = replace(others, agreement=np.full_like(others.agreement, 1 / len(LABELS)))  # cannot be copied
    shares = predict(panel, blank, side=SIDE, device=CPU)
    assert (shares.argmax(axis=1) == truth).mean() > 0.9
    assert shares.sum(axis=1) == pytest.approx(1)


def test_the_table_has_the_training_part_as_rated_and_the_others_as_predicted(
    rated: AffectiveSet, partition: Partition, tmp_path: Path
) -> None:
    others = colour_set(draw_folder(tmp_path / "others"))
    shares = np.tile([0.25, 0.25, 0.5], (len(others), 1))
    path = tmp_path / "tables" / "pseudo.csv"
    assert write_table(path, rated, partition, others, shares) == len(partition.train) + len(others)
    read = load("cap_d", path, SourceOptions(near_duplicates=False))
    assert read.labels == LABELS
    assert [picture.resolve() for picture in read.pictures] == [
        *(rated.pictures[i].resolve() for i in partition.train),
        *(picture.resolve() for picture in others.pictures),
    ]
    split = len(partition.train)
    assert read.agreement[:split] == pytest.approx(rated.agreement[partition.train])
    assert read.agreement[split:] == pytest.approx(shares)
    with path.open(newline="") as file:  # the table and its pictures may move together
        assert all(row["picture"].startswith("..") for row in csv.DictReader(file))
