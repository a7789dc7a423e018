"""A table of agreement levels: one row a picture, one column an emotion.

Which emotions there are, and in what order, is the table's business. Every problem in it is found before
it is refused, so that it can be mended in one go.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.affective_set import AffectiveSet, DataError
from training.sources.files import find_all, group_ids
from training.sources.table import Table, read_table
from training.sources.units import TOTAL, is_missing, number_in, possible_units, sums_fit

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from training.sources.options import SourceOptions, Unit

_log = logging.getLogger(__name__)

_RATERS = frozenset({"n", "raters", "n_raters"})


def read_agreement_table(
    path: Path, options: SourceOptions, *, name: str, terms: str, citation: str
) -> AffectiveSet:
    """Read a table; its pictures are looked up, but not opened.

    Args:
        path: ``.xlsx``, or text separated by commas, semicolons or tabs.
        options: which columns are what, and the unit.
        name: of the database.
        terms: what the owners of the pictures allow.
        citation: how to cite the database.

    Raises:
        DataError: what is wrong with the table, row by row, or its unit cannot be told.
    """
    table = read_table(path)
    columns = _choose_columns(table, options)
    votes, problems = _numbers(table, columns.emotions)
    raters = None
    if columns.raters:
        counts, unreadable = _numbers(table, (columns.raters,))
        raters = counts[:, 0]
        problems += unreadable + _without_raters(table, raters)
    pictures, unclear = find_all(table, columns.picture)
    problems += _vote_problems(table, votes) + unclear + repeated(table, columns.picture, pictures)
    if problems:  # a unit told from broken rows would only add noise
        raise DataError(f"{path} has {len(problems)} problems", problems)
    unit = _tell_unit(table, columns, votes, raters) if options.unit == "auto" else options.unit
    if problems := _sum_problems(table, votes, unit) + _more_votes_than_raters(table, votes, raters, unit):
        told = "" if options.unit != "auto" else "; if that is not their unit, give it with --unit"
        raise DataError(f"{path} is not in {unit}s of {', '.join(columns.emotions)}{told}", problems)
    if unit == "count" and (totals := _totals(columns.emotions, votes, raters)):
        raise DataError(
            f"{path}: {' or '.join(totals)} is the sum of all other emotions in every row; if it is their "
            "total, name it with --ignore-column, or with --raters-column if it is the number of raters"
        )
    sums = votes.sum(axis=1)
    if unit == "count" and (empty := _empty_cells(table, columns.emotions, sums, raters)):
        raise DataError(f"{path} has {len(empty)} counts that are not there; write 0 for no votes", empty)
    if unit == "count" and raters is not None and (many := int((sums > raters).sum())):
        _log.warning(
            "%s: %d of %d rows have more votes than raters: each vote is taken for an equal part of its row",
            path, many, len(sums),
        )  # fmt: skip
    if unit == "count":  # votes for what is left out are no votes for any of these
        raters = sums if raters is None else np.minimum(raters, sums)
    names = table.column(columns.group) if columns.group else [""] * len(pictures)
    return AffectiveSet(
        name,
        columns.emotions,
        pictures,
        agreement=votes / sums[:, None],
        raters=raters,
        groups=group_ids(names),
        terms=terms,
        citation=citation,
    )


@dataclass(frozen=True)
class _Columns:
    picture: str
    raters: str | None
    group: str | None
    emotions: tuple[str, ...]


def _choose_columns(table: Table, options: SourceOptions) -> _Columns:
    named = (options.picture_column, options.raters_column, options.group_column, *options.ignore_columns)
    for name in named:
        if name is not None:
            table.column(name)  # raises if it is not there
    picture = options.picture_column or table.header[0]
    rest = [name for name in table.header if name not in {picture, *named}]
    raters = options.raters_column
    if raters is None:
        alike = [name for name in rest if name.lower() in _RATERS]
        if len(alike) > 1:
            raise DataError(
                f"{table.path}: {' and '.join(alike)} may be the raters; name them with --raters-column"
            )
        raters = alike[0] if alike else None
    emotions = tuple(name for name in rest if name != raters)
    if len(emotions) < 2:  # noqa: PLR2004 - a choice needs two
        raise DataError(f"{table.path} needs two or more columns of emotions; its are {list(emotions)}")
    return _Columns(picture, raters, options.group_column, emotions)


def _numbers(table: Table, columns: tuple[str, ...]) -> tuple[NDArray[np.float64], list[str]]:
    """The columns as ``[N, K]``, with 1 where a cell is not a number, and those cells."""
    numbers = np.ones((len(table.rows), len(columns)))
    problems = []
    for place, name in enumerate(columns):
        for row, cell in enumerate(table.column(name)):
            number = number_in(cell)
            if number is None:
                problems.append(f"row {table.numbers[row]}, column {name!r}: {cell!r} is not a number")
            else:
                numbers[row, place] = number
    return numbers, problems


def _empty_cells(
    table: Table, columns: tuple[str, ...], sums: NDArray[np.float64], raters: NDArray[np.float64] | None
) -> list[str]:
    """Counts without a number that may be other than 0: the others do not sum to the row's raters."""
    return [
        f"row {table.numbers[row]}, column {name!r} is empty"
        for name in columns
        for row, cell in enumerate(table.column(name))
        if is_missing(cell) and (raters is None or raters[row] != sums[row])
    ]


def _without_raters(table: Table, raters: NDArray[np.float64]) -> list[str]:
    return [
        f"row {number}: {count:g} raters"
        for number, count in zip(table.numbers, raters, strict=True)
        if not 0 < count < np.inf
    ]


def _vote_problems(table: Table, votes: NDArray[np.float64]) -> list[str]:
    problems = []
    for number, row in zip(table.numbers, votes, strict=True):
        if (row < 0).any():
            problems.append(f"row {number}: {row.min():g} is negative")
        elif not 0 < row.sum() < np.inf:
            problems.append(f"row {number}: no votes" if row.sum() == 0 else f"row {number}: endless votes")
    return problems


def _more_votes_than_raters(
    table: Table, votes: NDArray[np.float64], raters: NDArray[np.float64] | None, unit: Unit
) -> list[str]:
    """Counts that no emotion can have; most likely their column is not one of an emotion."""
    if unit != "count" or raters is None:
        return []
    return [
        f"row {number}: {row.max():g} of {count:g} raters chose one emotion"
        for number, row, count in zip(table.numbers, votes, raters, strict=True)
        if row.max() > count
    ]


def _totals(
    emotions: tuple[str, ...], votes: NDArray[np.float64], raters: NDArray[np.float64] | None
) -> list[str]:
    """Columns of counts that sum up all others.

    Not of two emotions that are alike in every row, nor where there are as many raters as votes: then half of
    them chose it.
    """
    sums = votes.sum(axis=1)
    if len(emotions) < 3 or (raters is not None and np.array_equal(sums, raters)):  # noqa: PLR2004
        return []
    half = (2 * votes == sums[:, None]).all(axis=0)
    return [name for name, total in zip(emotions, half, strict=True) if total]


def repeated(table: Table, column: str, pictures: tuple[Path, ...]) -> list[str]:
    """The rows whose picture has no name or is that of an earlier row, as problems."""
    problems = []
    first: dict[Path, int] = {}
    for number, cell, path in zip(table.numbers, table.column(column), pictures, strict=True):
        if not cell:
            problems.append(f"row {number}: no picture is named")
        elif first.setdefault(path, number) != number:
            problems.append(f"row {number}: {cell} is already in row {first[path]}")
    return problems


def _tell_unit(
    table: Table, columns: _Columns, votes: NDArray[np.float64], raters: NDArray[np.float64] | None
) -> Unit:
    units = possible_units(votes, raters)
    if len(units) == 1:
        return units[0]
    sums = votes.sum(axis=1)
    what = (
        f"could be {'s or '.join(units)}s"
        if units
        else "are neither fractions, nor percents, nor counts, if all these columns are emotions: "
        + ", ".join(columns.emotions)
    )
    raise DataError(
        f"{table.path}: the numbers {what} (rows sum to {sums.min():g} up to {sums.max():g}); "
        "give the unit with --unit, or name the columns that are no emotions with --ignore-column"
    )


def _sum_problems(table: Table, votes: NDArray[np.float64], unit: Unit) -> list[str]:
    if unit == "count":
        return [
            f"row {number}: {row[row != np.rint(row)][0]:g} is not a whole number of raters"
            for number, row in zip(table.numbers, votes, strict=True)
            if (row != np.rint(row)).any()
        ]
    return [
        f"row {number}: the {unit}s sum to {row.sum():g} instead of {TOTAL[unit]:g}"
        for number, row, fits in zip(table.numbers, votes, sums_fit(votes, unit), strict=True)
        if not fits
    ]
