from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from tests.training.colours import SIDE, colour_set, parts
from training import diagnosis
from training.diagnosis import causes, least_accuracy
from training.head import extract
from training.inception import EmotionInception, build
from training.pictures import RatedPictures, batches

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from training.affective_set import AffectiveSet
    from training.partition import Partition
    from training.pretrained import StartWeights

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def rated(colour_folder: Path) -> AffectiveSet:
    return colour_set(colour_folder, agreement=1.0)


@pytest.fixture(scope="module")
def partition(rated: AffectiveSet) -> Partition:
    return parts(rated, train=6, validation=3)


@pytest.fixture
def network(start: StartWeights) -> EmotionInception:
    return build(3, start)


@pytest.fixture(scope="module")
def features(start: StartWeights, rated: AffectiveSet) -> Tensor:
    """Of every picture."""
    pictures = RatedPictures(rated, np.arange(len(rated)), side=SIDE)
    return extract(build(3, start), batches(pictures, batch=10), CPU)[0]


def part(rated: AffectiveSet, features: Tensor, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    return features[indices], torch.from_numpy(rated.agreement[indices]).float()


def shuffled(rated: AffectiveSet) -> AffectiveSet:
    """The same labels, given to other pictures."""
    return replace(rated, agreement=np.random.default_rng(5).permutation(rated.agreement))


def test_the_least_is_twice_chance_where_that_can_be_reached() -> None:
    assert [least_accuracy(labels) for labels in (2, 3, 6, 8)] == [0.75, 2 / 3, 1 / 3, 0.25]


def test_labels_of_other_pictures(
    network: EmotionInception, rated: AffectiveSet, partition: Partition, features: Tensor
) -> None:
    wrong = shuffled(rated)
    training, held_out = (part(wrong, features, each) for each in (partition.train, partition.validation))
    head = network.head.weight.detach().clone()
    found = causes(network, wrong, partition, training, held_out, side=SIDE)
    assert [cause.partition(":")[0] for cause in found] == ["labels and pictures do not belong together"]
    assert torch.equal(network.head.weight, head), "a diagnosis changes nothing"
    training, held_out = (part(rated, features, each) for each in (partition.train, partition.validation))
    assert [*diagnosis._about_labels(network, training, held_out)] == [], "of their own pictures"


def test_pixels_in_another_unit(network: EmotionInception, rated: AffectiveSet, partition: Partition) -> None:
    network.std = 1e6  # every picture is nearly black
    (cause,) = diagnosis._about_pixels(network, rated, partition, SIDE)
    assert cause.startswith("the pixels are scaled wrongly: with a mean of 0.5 and a deviation of 1e+06")
    assert network.std == 1e6, "a diagnosis changes nothing"


def test_weights_that_see_nothing(rated: AffectiveSet, partition: Partition, features: Tensor) -> None:
    def about(found: Tensor) -> list[str]:
        return [*diagnosis._about_features(rated, partition, part(rated, found, partition.train), SIDE)]

    assert about(features) == []
    (alike,) = about(torch.ones_like(features))
    assert alike.startswith("the start weights are broken: every picture has the same features")
    (blind,) = about(torch.randn(features.shape, generator=torch.Generator().manual_seed(0)))
    assert blind.startswith("the start weights see nothing")
    (broken,) = about(features * torch.nan)
    assert "broken" in broken


def test_sets_that_little_can_be_learned_from(rated: AffectiveSet, partition: Partition) -> None:
    def about(of: AffectiveSet, divided: Partition = partition) -> list[str]:
        return [*diagnosis._about_the_set(of, divided)]

    assert about(rated) == []
    one = replace(rated, agreement=np.eye(3)[np.where(np.arange(len(rated)) % 9 == 8, rated.dominant, 0)])
    assert about(one)[0].startswith("one emotion is nearly everything: blue dominates")
    (few,) = about(rated, parts(rated, train=2, validation=2))
    assert few.startswith("too few pictures to learn from: blue 2, green 2, red 2.")
    copies = replace(rated, groups=np.arange(len(rated)) // 5)
    assert about(copies) == ["the 18 training pictures are near duplicates of only 6 different ones"]
