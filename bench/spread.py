"""Repeated measurements in three figures."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True)
class Spread:
    """The median of measurements of one thing, and how far they lie apart.

    Attributes:
        median: in the unit of what was measured.
        low: the least; from `of_many`, the 10th percentile.
        high: the greatest; from `of_many`, the 90th percentile.
        count: of measurements.
    """

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Of a few values, such as one for each round: the range is all of it."""
        known = sorted(values)
        return cls(statistics.median(known), known[0], known[-1], len(known))

    @classmethod
    def of_many(cls, values: Iterable[float]) -> Self:
        """Of many values: the outer tenths, where the machine's own hiccups land, are cut off."""
        known = sorted(values)
        return cls(statistics.median(known), percentile(known, 10), percentile(known, 90), len(known))

    def scaled(self, factor: float) -> Spread:
        """In another unit."""
        return Spread(self.median * factor, self.low * factor, self.high * factor, self.count)

    def __format__(self, spec: str) -> str:
        """``median (low to high)``, each as `spec` says; one measurement has no range."""
        if self.count == 1:
            return f"{self.median:{spec}}"
        return f"{self.median:{spec}} ({self.low:{spec}} to {self.high:{spec}})"


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: a value that was really measured, with `percent` % of all not above it.

    Args:
        ordered: ascending, not empty.
        percent: above 0, at most 100.
    """
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]
