"""The numbers in a table of agreement levels: how they are written, and what they count."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.sources.options import Unit

Share = Literal["fraction", "percent"]
TOTAL: dict[Share, float] = {"fraction": 1.0, "percent": 100.0}
"""What a row sums to, in each unit where that is known."""
TOLERANCE = 0.05
"""How far the sum of a row may be off by rounding, as a share of it."""

_MISSING = frozenset({"", "na", "n/a", "nan"})
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?")


def is_missing(cell: str) -> bool:
    """Whether a cell says that it has no value."""
    return cell.lower() in _MISSING


def number_in(cell: str) -> float | None:
    """The number in a cell, with a decimal point or comma and perhaps a percent sign; None if there is none.

    A missing value (an empty cell, NA, N/A or NaN) is 0.
    """
    if is_missing(cell):
        return 0.0
    text = cell.removesuffix("%").rstrip()
    return float(text.replace(",", ".")) if _NUMBER.fullmatch(text) else None


def sums_fit(votes: NDArray[np.float64], unit: Share) -> NDArray[np.bool_]:
    """Which rows ``[N]`` of votes ``[N, K]`` sum to what they must in that unit, but for rounding."""
    fits: NDArray[np.bool_] = np.abs(votes.sum(axis=1) / TOTAL[unit] - 1) <= TOLERANCE + 1e-9
    return fits


def possible_units(votes: NDArray[np.float64], raters: NDArray[np.float64] | None) -> tuple[Unit, ...]:
    """The units that a table ``[N, K]`` of votes can be in, most likely first.

    Fractions or percents where most rows sum to 1 or 100; counts where every cell is a whole number.
    Two of them are possible when whole numbers sum to 1 or 100. Then numbers of raters ``[N]`` decide, if
    they are known: counts that sum to them are counts, and those that sum to more in some row are none. Rows
    that all have a single 1 are fractions: one rater or many, the agreement is the same.
    """
    whole = bool((votes == np.rint(votes)).all())
    most = 0.5
    shares: list[Unit] = [unit for unit in TOTAL if sums_fit(votes, unit).mean() > most]
    if not whole or not shares:
        return (*shares, "count") if whole else tuple(shares)
    sums = votes.sum(axis=1)
    if raters is not None and np.array_equal(sums, raters):
        return ("count",)
    one_hot = bool((sums == 1).all())
    too_many = raters is not None and bool((sums > raters).any())
    return tuple(shares) if one_hot or too_many else (*shares, "count")
