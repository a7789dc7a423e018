"""Pseudo-ratings: what the raters of one set would probably say of the pictures of another.

Rated pictures are few; pictures are not. Several ImageNet networks look at both sets, a last layer on what
they see together learns from the rated ones, and what it predicts of the others is a table of agreement
levels that `fit` can learn from like any other (pseudo-labels: Lee 2013; distillation: Hinton et al. 2015,
arXiv 1503.02531). The pictures that a set keeps for choosing and for the test do not stand in the table.

Where the other pictures have raters too, `of_both` lets each set's raters speak of all pictures, so that one
trunk can be taught for both.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from app.offline.files import replacing
from training.affective_set import DataError
from training.fit_settings import autocast
from training.head import PENALTIES, HeadFit, extract, fit_head
from training.near_duplicates import near_any
from training.partition import cross_validation
from training.pictures import RatedPictures, batches

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from training.affective_set import AffectiveSet
    from training.fit_settings import Precision
    from training.partition import Partition
    from training.teacher import Teacher

BATCH = 16
FOLDS = 5


class Panel(nn.Module):
    """Teachers that look together.

    Args:
        teachers: whose pooled features are read side by side.
        side: of the square pictures that they see, in pixels.
        precision: of their convolutions.
    """

    def __init__(self, teachers: Sequence[Teacher], *, side: int, precision: Precision = "float32") -> None:
        super().__init__()
        self.teachers = nn.ModuleList(teachers)
        self.side = side
        self.precision = precision

    def features(self, pictures: Tensor) -> Tensor:
        """``[N, F]`` of pictures ``[N, 3, H, W]`` in 0..255."""
        with autocast(self.precision, pictures.device):
            return torch.cat([teacher(pictures).float().mean((2, 3)) for teacher in self.teachers], dim=1)

    def look(
        self, pictures: AffectiveSet, indices: NDArray[np.int64], device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Features ``[N, F]`` and agreement ``[N, K]`` of some pictures of a set, on the CPU."""
        self.to(device)
        shown = RatedPictures(pictures, indices, side=self.side)
        return extract(self, batches(shown, batch=BATCH), device)


class Opinion(nn.Module):
    """One set's raters, as far as a last layer on what a panel sees can speak for them.

    Args:
        width: F, the number of the panel's features.
        labels: K, the number of emotions.
    """

    def __init__(self, width: int, labels: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, labels)

    @torch.no_grad()
    def shares(self, seen: Tensor) -> NDArray[np.float64]:
        """Agreement levels ``[N, K]`` of pictures with the features ``[N, F]``."""
        return np.asarray(torch.softmax(self.head(seen).double(), dim=1))


def learn(
    training: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    penalties: Sequence[float] = PENALTIES,
) -> tuple[Opinion, HeadFit]:
    """Fit a last layer to features and agreement, its penalty to the validation part."""
    opinion = Opinion(training[0].shape[1], training[1].shape[1])
    return opinion, fit_head(opinion, training, validation, penalties=penalties)


def out_of_fold(
    rated: AffectiveSet, seen: tuple[Tensor, Tensor], *, penalty: float, seed: int
) -> NDArray[np.float64]:
    """Agreement levels ``[N, K]`` that are expected of N rated pictures by who learned from the others.

    Who has learned from a picture says again what its raters said, with their noise.

    Args:
        rated: the N pictures.
        seen: of them, features ``[N, F]`` and agreement ``[N, K]``.
        penalty: of each fold's last layer.
        seed: of the folds.

    Raises:
        DataError: there are too few pictures, or groups of near duplicates, for the folds.
    """
    shares = np.empty(seen[1].shape)
    (folds,) = cross_validation(rated, folds=FOLDS, seed=seed, validation_share=0)
    for fold in folds:
        apart = seen[0][fold.test], seen[1][fold.test]
        opinion, _ = learn((seen[0][fold.train], seen[1][fold.train]), apart, (penalty,))
        shares[fold.test] = opinion.shares(apart[0])
    return shares


def check_names(sets: Iterable[AffectiveSet]) -> None:
    """That a table, which is UTF-8, can name the pictures.

    Raises:
        DataError: it cannot name some, as those of an old archive.
    """
    strange = []
    for picture in (each for rated in sets for each in rated.pictures):
        try:
            str(picture).encode()
        except UnicodeEncodeError:
            strange.append(str(picture).encode("utf-8", "backslashreplace").decode())
    if strange:
        raise DataError(f"{len(strange)} pictures have names that are no UTF-8; rename them", strange)


@dataclass(frozen=True, eq=False)
class PseudoRated:
    """Rows of the table.

    Attributes:
        labels: K names of columns.
        pictures: N files.
        agreement: ``[N, K]``; rows sum to 1.
        found: the last layers that were fitted, by the set that they learned from.
    """

    labels: tuple[str, ...]
    pictures: tuple[Path, ...]
    agreement: NDArray[np.float64]
    found: dict[str, HeadFit]

    def write(self, path: Path) -> None:
        """The table for the source ``cap_d``. Pictures are named by their way from it: both move together."""
        path.parent.mkdir(parents=True, exist_ok=True)
        here = path.parent.resolve()
        with replacing(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["picture", *self.labels])
            for picture, levels in zip(self.pictures, self.agreement, strict=True):
                writer.writerow([os.path.relpath(picture.resolve(), here), *np.round(levels, 6)])


def kept_apart(
    sets: tuple[AffectiveSet, AffectiveSet], partitions: tuple[Partition, Partition]
) -> tuple[Partition, Partition]:
    """Both partitions, less the training pictures that are near duplicates of what the other set holds out.

    Each set's own groups see to itself; but two sets may have drawn on the same sites, and a network that
    has learned a picture from one would be scored on it by the other.

    Args:
        sets: two of them.
        partitions: theirs.

    Raises:
        DataError: nothing would be left to learn from.
    """
    kept = []
    for rated, part, other, its in zip(sets, partitions, sets[::-1], partitions[::-1], strict=True):
        held_out = [other.pictures[i] for i in (*its.validation, *its.test)]
        train = part.train[~near_any(_chosen(rated, part), held_out)]
        if not len(train):
            raise DataError(f"all training pictures of {rated.name} are held out by {other.name}")
        kept.append(replace(part, train=train))
    return kept[0], kept[1]


def of_others(
    panel: Panel, rated: AffectiveSet, partition: Partition, others: AffectiveSet, *, device: torch.device
) -> PseudoRated:
    """The training part as it was rated, and what its raters would say of all other pictures.

    The other pictures' own labels are not looked at.
    """
    training, validation = (
        panel.look(rated, part, device) for part in (partition.train, partition.validation)
    )
    opinion, found = learn(training, validation)
    seen, _ = panel.look(others, np.arange(len(others)), device)
    return PseudoRated(
        rated.labels,
        (*_chosen(rated, partition), *others.pictures),
        np.concatenate([rated.agreement[partition.train], opinion.shares(seen)]),
        {rated.name: found},
    )


def of_both(
    panel: Panel,
    sets: tuple[AffectiveSet, AffectiveSet],
    partitions: tuple[Partition, Partition],
    *,
    own: float,
    seed: int,
    device: torch.device,
) -> PseudoRated:
    """The training parts of two sets, each picture rated by the raters of both.

    Each set has half of a row. The half of a picture's own raters is blended of what they said and what is
    predicted of them `out_of_fold`, which is steadier than one label or few votes.

    Args:
        panel: that looks at the pictures.
        sets: with different names.
        partitions: of the sets; only the training parts get into the table.
        own: share of what a picture's own raters said, 0 to 1.
        seed: of the folds.
        device: for the panel.

    Raises:
        DataError: the sets have one name, the share is none, or a set is too small for the folds.
    """
    if not 0 <= own <= 1:
        raise DataError(f"a picture's own raters cannot have a share of {own:g}; it lies between 0 and 1")
    if sets[0].name == sets[1].name:
        raise DataError(f"both sets are named {sets[0].name}, so their emotions cannot be told apart")
    seen = [panel.look(rated, part.train, device) for rated, part in zip(sets, partitions, strict=True)]
    features = torch.cat([features for features, _ in seen])
    found: dict[str, HeadFit] = {}
    columns, labels, start = [], [], 0
    for rated, part, training in zip(sets, partitions, seen, strict=True):
        opinion, found[rated.name] = learn(training, panel.look(rated, part.validation, device))
        shares = opinion.shares(features)
        rows = slice(start, start + len(part.train))
        expected = out_of_fold(
            rated.subset(part.train), training, penalty=found[rated.name].penalty, seed=seed
        )
        shares[rows] = own * rated.agreement[part.train] + (1 - own) * expected
        columns.append(shares / len(sets))
        labels += column_names(rated.name, rated.labels)
        start = rows.stop
    pictures = [picture for each in zip(sets, partitions, strict=True) for picture in _chosen(*each)]
    return PseudoRated(tuple(labels), tuple(pictures), np.concatenate(columns, axis=1), found)


def column_names(name: str, labels: Sequence[str]) -> list[str]:
    """What the emotions of a set of this name are called in a table of two sets."""
    return [f"{name} {label}" for label in labels]


def _chosen(rated: AffectiveSet, partition: Partition) -> tuple[Path, ...]:
    return tuple(rated.pictures[i] for i in partition.train)
