"""Where in a picture the evidence lies, as boxes that a program can use."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from app.explain.heatmap import strength

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.engine import Explanation

STRONG = 0.4
"""Share of the map's peak from which a pixel counts as part of a region."""
SMALLEST = 0.02
"""Share of all evidence from which a region is worth naming."""


@dataclass(frozen=True)
class Region:
    """One connected part of the picture that raises the emotion, or lowers it.

    Attributes:
        left, top, right, bottom: its box as shares of the picture's width and height, 0 to 1.
        share: of all evidence in the map, raising and lowering together, that lies within the region.
        raises: whether it raises the emotion; else it lowers it.
    """

    left: float
    top: float
    right: float
    bottom: float
    share: float
    raises: bool


def regions(explanation: Explanation) -> list[Region]:
    """The regions with the most evidence first; none where the map is flat."""
    signed = strength(explanation)
    total = float(np.abs(signed).sum())
    if total == 0:
        return []
    found = []
    for raises, side in ((True, signed), (False, -signed)):
        for rows, columns in _connected(side >= STRONG):
            share = float(side[rows, columns].sum()) / total
            if share >= SMALLEST:
                found.append(_region(rows, columns, signed.shape[0], share, raises=raises))
    return sorted(found, key=lambda region: -region.share)


def _region(
    rows: NDArray[np.intp], columns: NDArray[np.intp], side: int, share: float, *, raises: bool
) -> Region:
    return Region(
        left=int(columns.min()) / side,
        top=int(rows.min()) / side,
        right=(int(columns.max()) + 1) / side,
        bottom=(int(rows.max()) + 1) / side,
        share=share,
        raises=raises,
    )


def _connected(mask: NDArray[np.bool_]) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows and columns of each group of pixels ``[S, S]`` that touch by a side."""
    left = {(int(row), int(column)) for row, column in zip(*np.nonzero(mask), strict=True)}
    groups = []
    while left:
        start = left.pop()
        group, line = [start], deque([start])
        while line:
            row, column = line.popleft()
            for near in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                if near in left:
                    left.remove(near)
                    group.append(near)
                    line.append(near)
        rows, columns = np.array(sorted(group)).T
        groups.append((rows, columns))
    return groups
