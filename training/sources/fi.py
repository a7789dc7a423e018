"""FI: pictures from Flickr and Instagram, one of eight emotions each.

A picture is in it when at least three of five raters confirmed the emotion that it was searched by; how
many did is not published, so all agreement goes to that emotion and the raters count as unknown. Its own
list of near-duplicates is not complete: recoloured copies and bursts of the same scene are missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from training.affective_set import AffectiveSet, DataError
from training.sources.agreement_table import repeated
from training.sources.files import find_all, group_ids
from training.sources.table import read_table
from training.sources.units import is_missing

if TYPE_CHECKING:
    from pathlib import Path

    from training.sources.options import SourceOptions

TERMS = "academic research only; the pictures belong to their authors on Flickr and Instagram"
CITATION = (
    "You, Luo, Jin, Yang: Building a Large Scale Dataset for Image Emotion Recognition: The Fine Print and "
    "The Benchmark, AAAI 2016"
)


def read(path: Path, options: SourceOptions) -> AffectiveSet:
    """Read ``labels.csv`` (file, label, dup_group) and its pictures; labels are in alphabetical order.

    Raises:
        DataError: what is wrong with the table, row by row.
    """
    table = read_table(path / "labels.csv")
    cells = table.column("label")
    files = table.column("file")
    duplicates = table.column("dup_group")  # the file of one picture of the group; missing if alone
    pictures, problems = find_all(table, "file")
    problems += repeated(table, "file", pictures)
    problems += [
        f"row {number}: no label" for number, cell in zip(table.numbers, cells, strict=True) if not cell
    ]
    if problems:
        raise DataError(f"{table.path} has {len(problems)} problems", problems)
    labels = tuple(sorted(set(cells)))
    return AffectiveSet(
        options.name or "FI",
        labels,
        pictures,
        agreement=np.eye(len(labels))[[labels.index(cell) for cell in cells]],
        raters=None,
        groups=group_ids(
            [file if is_missing(group) else group for group, file in zip(duplicates, files, strict=True)]
        ),
        terms=TERMS,
        citation=CITATION,
    )
