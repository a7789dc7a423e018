"""Pictures and the share of raters who felt each emotion: filter, most common classes, split."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from training.metrics.reference import votes_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_log = logging.getLogger(__name__)
_LISTED = 20
_SAME = 1e-9
"""Agreement levels closer than this are the same number of votes; no study has a billion raters."""
_UNEVEN = 1.5
"""A part so many times as large as its share is told: some group is too large to be what it should be."""
_ROUNDING = 1e-5
"""Published shares are rounded: 9 of 15 raters may come as 0.599999 and still are 60 %."""


class DataError(Exception):
    """Rated pictures cannot be used; the message lists what is wrong, at most the first 20 problems.

    Attributes:
        problems: every problem found, one line each; empty when the summary says it all.
    """

    def __init__(self, summary: str, problems: Sequence[str] = ()) -> None:
        super().__init__(f"{summary}:\n{listing(problems)}" if problems else summary)
        self.problems = tuple(problems)


def listing(problems: Sequence[str]) -> str:
    """The first 20 problems, one a line, and how many more there are."""
    lines = [f"  {problem}" for problem in problems[:_LISTED]]
    if len(problems) > _LISTED:
        lines.append(f"  ... and {len(problems) - _LISTED} more")
    return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class AffectiveSet:
    """N pictures whose evoked emotions were rated over K labels.

    Attributes:
        name: of the database.
        labels: the K evoked emotions, in the order of the columns of `agreement`.
        pictures: N files.
        agreement: ``[N, K]`` agreement levels, the share of the raters who felt each emotion; rows sum to 1.
        raters: ``[N]`` number of raters behind each row, or None where the database does not say.
        groups: ``[N]`` pictures with the same number are near-duplicates, and are never split apart.
        terms: what the owners of the pictures allow.
        citation: how to cite the database.
        valence: ``[N]`` how pleasant the raters found each picture, or None where nobody asked them.
        valence_scale: the ends of `valence`.
        chosen_from: ``[P, K]`` votes of all pictures that these were chosen from by `keep_agreement` and
            `only`, or None.

    Raises:
        DataError: no picture, fewer than two labels, or arrays that contradict each other.
    """

    name: str
    labels: tuple[str, ...]
    pictures: tuple[Path, ...]
    agreement: NDArray[np.float64]
    raters: NDArray[np.float64] | None
    groups: NDArray[np.int64]
    terms: str
    citation: str
    valence: NDArray[np.float64] | None = None
    valence_scale: str | None = None
    chosen_from: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if problems := self._contradictions():
            raise DataError(f"{self.name} is not a set of rated pictures", problems)

    def _contradictions(self) -> list[str]:
        count, classes = len(self.pictures), len(self.labels)
        problems = []
        if count == 0:
            problems.append("there is no picture")
        if classes < 2 or len(set(self.labels)) < classes or "" in self.labels:  # noqa: PLR2004 - a choice
            problems.append(f"there must be two or more different labels, not {self.labels}")
        if self.agreement.shape != (count, classes):
            problems.append(f"agreement has shape {self.agreement.shape} instead of {(count, classes)}")
        elif not (self.agreement >= 0).all() or not np.allclose(self.agreement.sum(axis=1), 1, atol=1e-6):
            problems.append("each row of agreement must be shares that sum to 1")
        if self.groups.shape != (count,):
            problems.append(f"groups have shape {self.groups.shape} instead of {(count,)}")
        if self.raters is not None and self.raters.shape != (count,):
            problems.append(f"raters have shape {self.raters.shape} instead of {(count,)}")
        elif self.raters is not None and not ((self.raters > 0) & np.isfinite(self.raters)).all():
            problems.append("each picture must have more than 0 raters")
        if self.valence is not None and not (
            self.valence.shape == (count,) and np.isfinite(self.valence).all() and self.valence_scale
        ):
            problems.append("valence must be a number for each picture, on a scale that is named")
        return problems

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def dominant(self) -> NDArray[np.int64]:
        """``[N]`` index of the label with the highest agreement; of labels that tie, the first."""
        first: NDArray[np.int64] = self._top().argmax(axis=1)
        return first

    @property
    def ties(self) -> int:
        """Number of pictures whose highest agreement is shared by two or more labels."""
        return int((self._top().sum(axis=1) > 1).sum())

    def _top(self) -> NDArray[np.bool_]:
        top: NDArray[np.bool_] = self.agreement >= self.agreement.max(axis=1, keepdims=True) - _SAME
        return top

    def frequencies(self) -> dict[str, int]:
        """How many pictures each label dominates, in the order of the labels."""
        counts = np.bincount(self.dominant, minlength=len(self.labels))
        return dict(zip(self.labels, counts.tolist(), strict=True))

    @property
    def votes(self) -> NDArray[np.float64] | None:
        """``[P, K]`` votes before any filter chose pictures by them; None where nobody said how many."""
        if self.raters is None or self.chosen_from is not None:
            return self.chosen_from
        return votes_of(self.agreement, self.raters)

    def subset(self, indices: NDArray[np.int64] | NDArray[np.bool_]) -> AffectiveSet:
        """The pictures at these indices, or where a mask ``[N]`` is true.

        Raises:
            DataError: that is no picture at all.
        """
        kept = np.arange(len(self))[indices]
        return replace(
            self,
            pictures=tuple(self.pictures[index] for index in kept),
            agreement=self.agreement[kept],
            raters=None if self.raters is None else self.raters[kept],
            groups=self.groups[kept],
            valence=None if self.valence is None else self.valence[kept],
        )

    def keep_agreement(self, minimum: float) -> AffectiveSet:
        """The pictures whose highest agreement is at least `minimum` (0..1).

        Raises:
            DataError: no picture has so much agreement.
        """
        enough = self.agreement.max(axis=1) >= minimum - _ROUNDING
        if not enough.any():
            raise DataError(f"no picture of {self.name} has an agreement of at least {minimum:g}")
        return replace(self.subset(enough), chosen_from=self.votes)

    def top_classes(self, k: int) -> AffectiveSet:
        """Keep the `k` emotions that dominate the most pictures, in their present order; see `only`.

        Raises:
            DataError: `k` is not between 2 and the number of labels.
        """
        if not 2 <= k <= len(self.labels):  # noqa: PLR2004 - a choice needs two
            raise DataError(f"{self.name} has {len(self.labels)} labels; the {k} most common cannot be kept")
        counts = np.bincount(self.dominant, minlength=len(self.labels))
        return self.only([self.labels[label] for label in np.sort(np.argsort(-counts, kind="stable")[:k])])

    def only(self, labels: Sequence[str]) -> AffectiveSet:
        """Keep these emotions, in this order.

        Pictures that another emotion dominates are left out, votes for other emotions no longer count: the
        agreement is shared out among the kept labels, and `raters` shrinks to those who chose one of them.

        Raises:
            DataError: one of them is not rated here.
        """
        if unknown := [label for label in labels if label not in self.labels]:
            raise DataError(f"{self.name} has no ratings of {', '.join(unknown)}")
        places = np.array([self.labels.index(label) for label in labels])
        kept = np.flatnonzero(np.isin(self.dominant, places))
        agreement = self.agreement[np.ix_(kept, places)]
        share = agreement.sum(axis=1)
        return replace(
            self,
            labels=tuple(labels),
            pictures=tuple(self.pictures[index] for index in kept),
            agreement=agreement / share[:, None],
            raters=None if self.raters is None else self.raters[kept] * share,
            groups=self.groups[kept],
            valence=None if self.valence is None else self.valence[kept],
            chosen_from=None if self.votes is None else self.votes[:, places],
        )


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


TEST_SHARE, VALIDATION_SHARE = 0.2, 0.125


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
