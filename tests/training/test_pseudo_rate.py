from __future__ import annotations

import csv
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests.training.colours import LABELS, SIDE, colour_set, draw_folder, parts
from training.__main__ import parser
from training.affective_set import AffectiveSet, DataError
from training.partition import Partition
from training.pseudo_rate import Panel, kept_apart, learn, of_both, of_others, out_of_fold
from training.sources import SourceOptions, load
from training.teacher import Teacher
from training.verbs.reading import to_rate

if TYPE_CHECKING:
    from pathlib import Path


CPU = torch.device("cpu")


class Colours(nn.Module):
    """A network that sees nothing but the colours of the quarters of a picture."""

    def forward_features(self, pictures: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(pictures, 2)


@pytest.fixture
def panel() -> Panel:
    teachers = [Teacher(Colours(), 3, mean=(mean,) * 3, std=(0.1,) * 3) for mean in (0.0, 0.5)]
    return Panel(teachers, side=SIDE)


@pytest.fixture
def rated(colour_folder: Path) -> AffectiveSet:
    return colour_set(colour_folder)


@pytest.fixture
def others(tmp_path: Path) -> AffectiveSet:
    return replace(colour_set(draw_folder(tmp_path / "others"), agreement=1.0), name="others")


@pytest.fixture
def partition(rated: AffectiveSet) -> Partition:
    return parts(rated, train=6, validation=2)


def test_pictures_that_nobody_rated_get_what_the_raters_would_say(
    panel: Panel, rated: AffectiveSet, partition: Partition, others: AffectiveSet
) -> None:
    blank = replace(others, agreement=np.full_like(others.agreement, 1 / len(LABELS)))  # cannot be copied
    made = of_others(panel, rated, partition, blank, device=CPU)
    assert made.found[rated.name].validation_loss < 0.8  # chance is 1.1
    own = len(partition.train)
    assert made.labels == LABELS
    assert made.agreement[:own] == pytest.approx(rated.agreement[partition.train])
    assert (made.agreement[own:].argmax(axis=1) == others.dominant).mean() > 0.9
    assert made.agreement.sum(axis=1) == pytest.approx(1)


def test_a_folder_of_pictures_without_labels_is_read(colour_folder: Path) -> None:
    words = ["pseudo-rate", "image_folder", str(colour_folder / "red"), "--rated", "cap_d", "ratings.csv"]
    chosen = parser().parse_args(
        [*words, "--teacher", "a.safetensors", "--output", "b.csv", "--terms", "free"]
    )
    found = to_rate(chosen, ("awe", "joy"))
    assert list(found.pictures) == sorted((colour_folder / "red").iterdir())
    assert (found.labels, found.terms) == (("awe", "joy"), "free")


def test_the_table_has_the_training_part_and_the_others(
    panel: Panel, rated: AffectiveSet, partition: Partition, others: AffectiveSet, tmp_path: Path
) -> None:
    path = tmp_path / "tables" / "pseudo.csv"
    made = of_others(panel, rated, partition, others, device=CPU)
    made.write(path)
    read = load("cap_d", path, SourceOptions(near_duplicates=False))
    assert read.labels == LABELS
    assert [picture.resolve() for picture in read.pictures] == [
        *(rated.pictures[i].resolve() for i in partition.train),
        *(picture.resolve() for picture in others.pictures),
    ]
    assert read.agreement == pytest.approx(made.agreement, abs=1e-5)
    with path.open(newline="") as file:  # the table and its pictures may move together
        assert all(row["picture"].startswith("..") for row in csv.DictReader(file))


@pytest.mark.parametrize("own", [1.0, 0.25])
def test_the_raters_of_both_sets_rate_the_training_pictures_of_both(
    panel: Panel, rated: AffectiveSet, partition: Partition, others: AffectiveSet, own: float
) -> None:
    # The others' raters call the same colours by other names: the last is the first.
    turned = replace(others, agreement=np.roll(others.agreement, 1, axis=1))
    other_parts = parts(turned, train=5, validation=2)
    made = of_both(panel, (rated, turned), (partition, other_parts), own=own, seed=1, device=CPU)
    assert made.labels == tuple(f"{each.name} {label}" for each in (rated, turned) for label in LABELS)
    first, second = len(partition.train), len(other_parts.train)
    assert len(made.pictures) == len(made.agreement) == first + second
    assert made.agreement.sum(axis=1) == pytest.approx(1)
    halves = np.split(2 * made.agreement, 2, axis=1)
    truth = np.concatenate([rated.dominant[partition.train], others.dominant[other_parts.train]])
    assert (halves[0].argmax(axis=1) == truth).mean() > 0.9
    assert (halves[1].argmax(axis=1) == (truth + 1) % len(LABELS)).mean() > 0.9
    distance = np.abs(halves[0][:first] - rated.agreement[partition.train]).max()
    assert distance < 1e-6 if own == 1 else distance > 1e-3  # what is predicted has its share


def test_nobody_is_asked_about_a_picture_that_he_learned_from(rated: AffectiveSet) -> None:
    noise = np.random.default_rng(0)
    ratings = np.eye(len(LABELS))[noise.integers(len(LABELS), size=len(rated))]
    by_chance = replace(rated, agreement=ratings)
    seen = torch.from_numpy(noise.normal(size=(len(rated), 200))).float(), torch.from_numpy(ratings).float()
    learned, _ = learn(seen, seen, (0.01,))
    assert (learned.shares(seen[0]).argmax(axis=1) == by_chance.dominant).all()  # by heart
    expected = out_of_fold(by_chance, seen, penalty=0.01, seed=1)
    assert expected.sum(axis=1) == pytest.approx(1)
    assert (expected.argmax(axis=1) == by_chance.dominant).mean() < 0.6


def test_what_one_set_holds_out_is_not_learned_from_the_other(tmp_path: Path) -> None:
    noise = np.random.default_rng(2)
    both = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        for number in range(9):
            picture = Image.fromarray(noise.integers(0, 256, (12, 12, 3), np.uint8)).resize((96, 96))
            picture.save(folder / f"{number}.png")
        pictures = tuple(sorted(folder.iterdir()))
        both.append(
            AffectiveSet(name, LABELS, pictures, np.eye(3)[np.arange(9) % 3], None, np.arange(9), "", "")
        )
    copied = Image.open(both[0].pictures[7])  # held out by the first, learned from by the second
    copied.resize((64, 64)).save(both[1].pictures[2], "PNG")
    divided = Partition(train=np.arange(5), validation=np.array([5, 6]), test=np.array([7, 8]))
    first, second = kept_apart((both[0], both[1]), (divided, divided))
    assert first.train.tolist() == [0, 1, 2, 3, 4]
    assert second.train.tolist() == [0, 1, 3, 4]
    assert second.test.tolist() == [7, 8]
    with pytest.raises(DataError, match="held out by"):
        kept_apart((both[0], both[0]), (divided, Partition(divided.test, divided.train, divided.test)))


def test_two_sets_of_one_name_and_a_share_that_is_none_are_refused(
    panel: Panel, rated: AffectiveSet, partition: Partition
) -> None:
    both = (rated, rated), (partition, partition)
    with pytest.raises(DataError, match="cannot be told apart"):
        of_both(panel, *both, own=0.5, seed=1, device=CPU)
    with pytest.raises(DataError, match=r"share of 1\.5"):
        of_both(panel, *both, own=1.5, seed=1, device=CPU)
