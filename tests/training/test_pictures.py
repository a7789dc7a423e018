from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from app.picture import decode
from tests.training.colours import SIDE, colour_set
from training.pictures import RatedPictures, batches, seeds

if TYPE_CHECKING:
    from pathlib import Path

    from training.affective_set import AffectiveSet


@pytest.fixture(scope="module")
def rated(colour_folder: Path) -> AffectiveSet:
    return colour_set(colour_folder)


def test_a_plain_picture_is_what_the_service_sees(rated: AffectiveSet) -> None:
    pictures = RatedPictures(rated, np.array([20, 3]), side=SIDE)
    assert len(pictures) == 2
    picture, target = pictures[0]
    served = decode(rated.pictures[20].read_bytes()).as_input(SIDE)
    assert np.array_equal(picture.numpy(), served)
    assert target.tolist() == pytest.approx([0.2, 0, 0.8])


def test_an_augmented_picture_depends_on_seed_epoch_and_place_alone(rated: AffectiveSet) -> None:
    def picture(index: int, *, seed: int = 1, epoch: int = 1) -> torch.Tensor:
        pictures = RatedPictures(rated, np.array([5, 5]), side=SIDE, augment=("crop", "light"), seed=seed)
        pictures.epoch = epoch
        return pictures[index][0]

    first = picture(0)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert torch.equal(picture(0), first)
    assert torch.equal(torch.get_rng_state(), before), "the dropout's random numbers would shift"
    for other in (picture(1), picture(0, seed=2), picture(0, epoch=2)):
        assert not torch.equal(other, first)


def test_batches_leave_no_picture_out_and_shuffle_by_their_seed(rated: AffectiveSet) -> None:
    pictures = RatedPictures(rated, np.arange(30), side=SIDE)

    def order(shuffle_seed: int | None) -> list[int]:
        loader = batches(pictures, batch=8, shuffle_seed=shuffle_seed)
        assert [len(target) for _, target in loader] == [8, 8, 8, 6]
        return [picture.sum().item() for inputs, _ in loader for picture in inputs.long()]

    plain = order(None)
    assert plain == [pictures[n][0].long().sum().item() for n in range(30)]
    assert order(1) == order(1) != order(2)
    assert sorted(order(1)) == sorted(plain) != order(1)


def test_seeds_are_the_same_everywhere_and_differ_from_place_to_place() -> None:
    assert seeds(1, 2, count=2) == [1596810411, 3615836353]
    assert len({seeds(1, epoch, index, count=1)[0] for epoch in range(20) for index in range(20)}) == 400
