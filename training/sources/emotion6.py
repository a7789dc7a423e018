"""Emotion6: the votes of about 15 raters for six emotions and neutral, on pictures from Flickr."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from training.affective_set import DataError
from training.sources.agreement_table import read_agreement_table
from training.sources.table import read_table
from training.sources.units import number_in

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from training.affective_set import AffectiveSet
    from training.sources.options import SourceOptions

RATERS = 15
VALENCE_SCALE = "mean rating from 1 (very unpleasant) to 9 (very pleasant), with 5 between them"
TERMS = "academic research only; people in the pictures are identifiable"
CITATION = (
    "Peng, Chen, Sadovnik, Gallagher: A Mixed Bag of Emotions: Model, Predict, and Transfer Emotion "
    "Distributions, CVPR 2015"
)


def read(path: Path, options: SourceOptions) -> AffectiveSet:
    """Read ``labels.csv`` (file, valence, arousal, then a share for each label) beside ``images``.

    The paper says 15 raters a picture; the table does not say how many there were for each. Its shares show
    that some raters split their vote, which varies less than whole votes do: what is told of the noise of the
    ratings takes 15 whole ones, and so makes it rather too large.

    Raises:
        DataError: what is wrong with the table, row by row.
    """
    layout = replace(
        options,
        unit="fraction",
        picture_column="file",
        raters_column=None,
        group_column=None,
        ignore_columns=("valence", "arousal"),
    )
    rated = read_agreement_table(
        path / "labels.csv", layout, name=options.name or "Emotion6", terms=TERMS, citation=CITATION
    )
    return replace(
        rated,
        raters=np.full(len(rated), float(RATERS)),
        valence=_valence(path / "labels.csv"),
        valence_scale=VALENCE_SCALE,
    )


def _valence(path: Path) -> NDArray[np.float64]:
    table = read_table(path)
    cells = table.column("valence")
    ratings = [number_in(cell) if cell else None for cell in cells]
    if problems := [
        f"row {number}, column 'valence': {cell!r} is not from 1 to 9"
        for number, cell, rating in zip(table.numbers, cells, ratings, strict=True)
        if rating is None or not 1 <= rating <= 9  # noqa: PLR2004 - the scale
    ]:
        raise DataError(f"{path} has {len(problems)} problems", problems)
    return np.array(ratings, np.float64)
