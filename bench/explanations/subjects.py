"""The pictures that are explained: those that the checkpoint was not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from app.checkpoint import probabilities
from app.picture import Picture, decode
from training.division import check_split, split_as
from training.sources import SourceOptions, load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from PIL import Image

    from app.checkpoint import Checkpoint
    from app.picture import Pixels
    from training.affective_set import AffectiveSet
    from training.partition import Partition


@dataclass(frozen=True)
class Subject:
    """One picture, and the emotion whose map is asked for: the one that the checkpoint expects most.

    Attributes:
        name: of the file, with its folder.
        rgb: the picture as it was uploaded.
        pixels: ``uint8 [3, S, S]``, as the network sees it.
        emotion: index of the dominant emotion.
        second: index of the emotion after it.
    """

    name: str
    rgb: Image.Image
    pixels: Pixels
    emotion: int
    second: int


def as_divided(folder: Path, checkpoint: Checkpoint) -> tuple[AffectiveSet, Partition]:
    """Emotion6 as the checkpoint's training divided it.

    Raises:
        training.evaluate.EvaluationError: these are not the pictures that training kept apart.
    """
    recorded = checkpoint.card.split
    rated = load("emotion6", folder, SourceOptions())
    partition = split_as(recorded, rated)
    check_split(recorded, rated, partition)
    return rated, partition


def held_out(folder: Path, checkpoint: Checkpoint, *, count: int, skip: int, seed: int) -> Iterator[Subject]:
    """Emotion6's held-out pictures in an order that the seed decides, from the one after `skip` on.

    They are those for the test, or for validation where the network has learned from those for the test.

    Raises:
        training.evaluate.EvaluationError: these are not the pictures that training kept apart.
    """
    rated, partition = as_divided(folder, checkpoint)
    order = np.random.default_rng(seed).permutation(partition.held_out)
    for index in order[skip : skip + count]:
        path = rated.pictures[index]
        yield subject(f"{path.parent.name}/{path.name}", path.read_bytes(), checkpoint)


def subject(name: str, data: bytes, checkpoint: Checkpoint) -> Subject:
    """A picture of any source."""
    picture = decode(data)
    pixels = picture.as_input(checkpoint.card.input_size)
    ranked = np.argsort(-probabilities(checkpoint, pixels[np.newaxis])[0])
    return Subject(name, picture.rgb, pixels, int(ranked[0]), int(ranked[1]))


def as_input(rgb: Image.Image, checkpoint: Checkpoint) -> Pixels:
    """An altered upload as the network sees it."""
    return Picture(rgb, "PNG", *rgb.size).as_input(checkpoint.card.input_size)
