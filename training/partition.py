"""Pictures divided into those for training, for validation and for the test, without cutting a group."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from training.affective_set import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.affective_set import AffectiveSet

_log = logging.getLogger(__name__)
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.125
_UNEVEN = 1.5
"""A part so many times as large as its share is told: some group is too large to be what it should be."""


@dataclass(frozen=True, eq=False)
class Partition:
    """Rising indices into an `AffectiveSet`; every picture is in exactly one part."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]

    @property
    def held_out(self) -> NDArray[np.int64]:
        """The pictures for the test, or those for validation where none are for the test."""
        return self.test if len(self.test) else self.validation

    def with_test(self) -> Partition:
        """The pictures for the test are trained on, too; those that choose still are not."""
        return replace(self, train=np.union1d(self.train, self.test), test=self.test[:0])


def split(
    affective_set: AffectiveSet,
    *,
    seed: int,
    test_share: float = TEST_SHARE,
    validation_share: float = VALIDATION_SHARE,
    with_test: bool = False,
) -> Partition:
    """Divide the pictures so that each part has the same mix of dominant emotions and no group is cut.

    The same set and seed give the same parts. A share is met as one of a whole number of folds: 0.3 gives a
    third. An emotion with fewer pictures than folds cannot be in every part. The largest groups of one
    emotion are dealt first, so that the very largest is in the test part whatever the seed; where that makes
    a part half as large again as it should be, it is logged.

    Args:
        affective_set: what to divide.
        seed: of the shuffle.
        test_share: of all pictures, at most 0.5; with 0 there is no such part.
        validation_share: of the pictures that are not for the test, likewise.
        with_test: train on the pictures for the test, too.

    Raises:
        DataError: a share is out of range, or there are too few pictures or groups for it.
    """
    everything = np.arange(len(affective_set))
    test = _one_fold(affective_set, everything, share=test_share, seed=seed)
    found = _with_validation(affective_set, test, share=validation_share, seed=seed)
    return found.with_test() if with_test else found


def cross_validation(
    affective_set: AffectiveSet,
    *,
    folds: int,
    repeats: int = 1,
    seed: int,
    validation_share: float = VALIDATION_SHARE,
) -> list[list[Partition]]:
    """Repeated stratified group k-fold: in each repeat, every picture is in the test part of one fold.

    Args:
        affective_set: what to divide.
        folds: of a repeat, two or more.
        repeats: other divisions of the same pictures.
        seed: of the shuffles.
        validation_share: of the pictures that are not for the fold's test, at most 0.5; or 0 for none.

    Returns:
        The folds of each repeat.

    Raises:
        DataError: a number is out of range, or there are too few pictures or groups for it.
    """
    if folds < 2 or repeats < 1:  # noqa: PLR2004 - one fold would leave nothing to train on
        raise DataError(f"{folds} folds and {repeats} repeats are no cross-validation")
    everything = np.arange(len(affective_set))
    return [
        [
            _with_validation(
                affective_set,
                _told(affective_set, test, of=everything, share=1 / folds),
                share=validation_share,
                seed=seed,
            )
            for test in _all_folds(affective_set, everything, folds=folds, seed=seed + repeat)
        ]
        for repeat in range(repeats)
    ]


def _with_validation(
    affective_set: AffectiveSet, test: NDArray[np.int64], *, share: float, seed: int
) -> Partition:
    rest = np.setdiff1d(np.arange(len(affective_set)), test)
    validation = _one_fold(affective_set, rest, share=share, seed=seed)
    return Partition(train=np.setdiff1d(rest, validation), validation=validation, test=test)


def _one_fold(
    affective_set: AffectiveSet, among: NDArray[np.int64], *, share: float, seed: int
) -> NDArray[np.int64]:
    if not 0 <= share <= 0.5:  # noqa: PLR2004 - a larger part leaves less than a fold
        raise DataError(f"a part of {share:g} of the pictures is not between 0 and 0.5")
    if share == 0:
        return among[:0]
    fold = _all_folds(affective_set, among, folds=round(1 / share), seed=seed)[0]
    return _told(affective_set, fold, of=among, share=share)


def _told(
    affective_set: AffectiveSet, part: NDArray[np.int64], *, of: NDArray[np.int64], share: float
) -> NDArray[np.int64]:
    """The part; the log says if it is far more than its share of the pictures `of` which it is one."""
    if len(part) > _UNEVEN * share * len(of):
        largest = np.unique(affective_set.groups[part], return_counts=True)[1].max()
        _log.warning(
            "%d of %d pictures of %s are one part, where %.0f are its share: its largest group, which is "
            "never cut, has %d. Are they that alike?",
            len(part), len(of), affective_set.name, share * len(of), largest,
        )  # fmt: skip
    return part


def _all_folds(
    affective_set: AffectiveSet, among: NDArray[np.int64], *, folds: int, seed: int
) -> list[NDArray[np.int64]]:
    """So many parts of the pictures `among` all, each with the same mix; no group is cut."""
    folder = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    dominant, groups = affective_set.dominant[among], affective_set.groups[among]
    try:
        with warnings.catch_warnings():
            # A rare emotion is no reason not to split; `AffectiveSet.frequencies` shows how rare it is.
            warnings.filterwarnings("ignore", "The least populated class in y has only", UserWarning)
            found = [np.sort(among[fold]) for _, fold in folder.split(among, dominant, groups)]
    except ValueError as error:
        raise DataError(f"{affective_set.name} has too few pictures to split: {error}") from error
    if not all(0 < len(fold) < len(among) for fold in found):
        raise DataError(f"{affective_set.name} has too few groups of near-duplicates to split")
    return found
