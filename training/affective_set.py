"""Pictures and the share of raters who felt each emotion: filter, most common classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from training.metrics.reference import votes_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_LISTED = 20
_SAME = 1e-9
"""Agreement levels closer than this are the same number of votes; no study has a billion raters."""
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
        share, votes = agreement.sum(axis=1), self.votes
        return replace(
            self,
            labels=tuple(labels),
            pictures=tuple(self.pictures[index] for index in kept),
            agreement=agreement / share[:, None],
            raters=None if self.raters is None else self.raters[kept] * share,
            groups=self.groups[kept],
            valence=None if self.valence is None else self.valence[kept],
            chosen_from=None if votes is None else votes[:, places],
        )
