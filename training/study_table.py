"""The study's rows: what is asked for, what was found, and both as tables."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from app.card import Score
    from training.affective_set import AffectiveSet
    from training.fit_settings import FitSettings

Layers = Literal["head", "all"]
Target = Literal["distribution", "class"]

SHOWN = ("accuracy", "balanced_accuracy", "macro_f1", "kl", "calibration_error")


@dataclass(frozen=True)
class Condition:
    """One row of the study.

    Attributes:
        layers: the last layer alone, or all.
        target: see `FitSettings`.
        threshold: smallest agreement of the pictures that are kept; 0 keeps all.
        classes: so many most common emotions; None for all.
    """

    layers: Layers
    target: Target
    threshold: float
    classes: int | None

    @property
    def name(self) -> str:
        """Of its run's folder."""
        return f"{self.layers}-{self.target}-{self.threshold:g}-{self.classes or 'all'}"

    def keep(self, whole: AffectiveSet) -> AffectiveSet:
        """Its pictures."""
        kept = whole.keep_agreement(self.threshold) if self.threshold else whole
        return kept if self.classes is None else kept.top_classes(self.classes)


@dataclass(frozen=True)
class Row:
    """What was found in one condition, or why nothing could be."""

    condition: Condition
    labels: int = 0
    pictures: int = 0
    tested: int = 0
    scores: dict[str, Score] | None = None
    majority: float = math.nan
    refused: str = ""


def conditions(
    labels: int,
    *,
    layers: Sequence[Layers],
    targets: Sequence[Target],
    thresholds: Sequence[float],
    classes: Sequence[int | None],
) -> list[Condition]:
    """Every combination, the quick ones first; keeping as many classes as there are is keeping all."""
    distinct = list(dict.fromkeys(None if count is None or count >= labels else count for count in classes))
    return [Condition(*each) for each in product(layers, targets, thresholds, distinct)]


def to_csv(rows: Sequence[Row]) -> str:
    """A line for each row, with the ends of every interval."""
    text = io.StringIO()
    heads = ["layers", "target", "threshold", "classes", "labels", "pictures", "tested", "chance", "majority"]
    figures = [f"{name}{end}" for name in SHOWN for end in ("", "_low", "_high")]
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*heads, *figures, "refused"])
    for row in rows:
        at = row.condition
        values = [at.layers, at.target, f"{at.threshold:g}", at.classes or "all"]
        if row.scores is None:
            table.writerow([*values, *[""] * (len(heads) - len(values) + len(figures)), row.refused])
            continue
        scores = [row.scores.get(name) for name in SHOWN]
        ends = [(each.value, each.low, each.high) if each else (math.nan,) * 3 for each in scores]
        table.writerow(
            [*values, row.labels, row.pictures, row.tested, f"{1 / row.labels:.4f}", f"{row.majority:.4f}"]
            + [f"{value:.4f}" for each in ends for value in each]
            + [""]
        )
    return text.getvalue()


def to_markdown(rows: Sequence[Row], whole: AffectiveSet, settings: FitSettings) -> str:
    """The table for people, with how it was made."""
    heads = cells_of(None)
    how = (
        f"{len(whole)} pictures, {len(whole.labels)} emotions. Each row: four fifths of the pictures that it "
        "keeps are trained on (an eighth of them chooses the epoch and the temperature), the rest are the "
        f"test (seed {settings.seed}, near duplicates kept together). In brackets: 95 % bootstrap intervals. "
        "Where no epoch of all layers is better on the validation pictures than the last layer alone, a row "
        "of all layers has that one's figures."
    )
    lines = [
        f"# The study on {whole.name}",
        "",
        how,
        "",
        f"| {' | '.join(heads)} |",
        f"|{'---|' * len(heads)}",
        *(f"| {' | '.join(cells_of(row))} |" for row in rows),
    ]
    return "\n".join([*lines, ""])


def cells_of(row: Row | None) -> list[str]:
    """A row's cells as people read them; without a row, the heads."""
    if row is None:
        first = ["layers", "target", "agreement", "emotions", "pictures", "test", "chance", "majority"]
        return [*first, *(name.replace("_", " ") for name in SHOWN)]
    at = row.condition
    said = [
        "last alone" if at.layers == "head" else "all",
        at.target,
        f"≥ {at.threshold:g}" if at.threshold else "any",
        str(at.classes or "all"),
    ]
    if row.scores is None:
        return [*said, *["-"] * 4, row.refused, *["-"] * (len(SHOWN) - 1)]
    said += [str(row.pictures), str(row.tested), f"{1 / row.labels:.3f}", f"{row.majority:.3f}"]
    return said + list(_with_interval(row.scores))


def _with_interval(scores: dict[str, Score]) -> Iterator[str]:
    for name in SHOWN:
        score = scores.get(name)
        yield "-" if score is None else f"{score.value:.3f} ({score.low:.3f} to {score.high:.3f})"
