"""What can be said about a database beside where it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from training.affective_set import DataError

NOT_STATED = "not stated"
Unit = Literal["fraction", "percent", "count"]


@dataclass(frozen=True)
class SourceOptions:
    """Options of `training.sources.load`. Those about columns are for ``cap_d`` tables.

    Attributes:
        skip_missing: leave out pictures that are missing or unreadable, instead of refusing the database.
        near_duplicates: look for near-duplicates by decoding every picture, some hundreds a second. The
            groups that a database brings itself are kept, and may grow.
        unit: of the agreement levels; ``auto`` tells it from the sums of the rows.
        picture_column: column of file names; None is the first column.
        raters_column: column of numbers of raters; None is a column called n, raters or n_raters, if any.
        group_column: column of names of groups of pictures that must not be split apart; None is no groups.
        ignore_columns: columns that are not emotions.
        name: of the database; None is the source's own.
        terms: what the owners of the pictures allow, for pictures of your own.
        citation: how to cite pictures of your own.

    Raises:
        DataError: `terms` is empty.
    """

    skip_missing: bool = False
    near_duplicates: bool = True
    unit: Unit | Literal["auto"] = "auto"
    picture_column: str | None = None
    raters_column: str | None = None
    group_column: str | None = None
    ignore_columns: tuple[str, ...] = ()
    name: str | None = None
    terms: str = NOT_STATED
    citation: str = NOT_STATED

    def __post_init__(self) -> None:
        if not self.terms.strip():
            raise DataError(f"the terms of the pictures are empty; leave them out to say {NOT_STATED!r}")


DEFAULTS = SourceOptions()
