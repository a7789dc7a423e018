"""Figures on the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Column, Table

from training.card import how_scored
from training.metrics import gap_closed
from training.study_table import cells_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.card import Card, Confusion, Quantised, Score
    from training.release import References, Scores
    from training.study_table import Row

# In a file, nothing tells the width; and names of files may have what rich would take for its own tags.
OUT = Console(width=None if sys.stdout.isatty() else 150, markup=False, emoji=False)


def print_scores(scores: Scores, references: References) -> None:
    """Each figure with its interval, the levels to compare it with, and how far it has come."""
    way = gap_closed(scores, references)
    head = [Column("figure", no_wrap=True), Column("value"), Column("95 % interval", no_wrap=True)]
    table = Table(*head, *references, *(["of the way"] if way else []))
    for name, figure in scores.items():
        levels = (references[level].get(name) for level in references)
        table.add_row(
            name,
            f"{figure.value:.3f}",
            f"{figure.low:.3f} to {figure.high:.3f}",
            *("" if level is None else f"{level:.3f}" for level in levels),
            *([f"{way[name].value:.0%}" if name in way else ""] if way else []),
        )
    OUT.print(table)
    if way:
        OUT.print("of the way: from chance to what the raters' own noise allows", style="dim")


def print_changes(quantised: Quantised, precision: str) -> None:
    """By how much a lower precision changes each figure."""
    _print_changes(quantised.changes)
    OUT.print(
        f"on {quantised.pictures} held-out pictures, in {precision} less in single precision", style="dim"
    )


def print_stand_in(card: Card) -> None:
    """Whose the scores are, and how far the checkpoint differs; nothing where they are its own."""
    if card.stand_in is not None:
        OUT.print(how_scored(card))
        _print_changes(card.stand_in.changes)


def _print_changes(changes: Mapping[str, Score]) -> None:
    table = Table(Column("figure", no_wrap=True), "change", Column("95 % interval", no_wrap=True))
    for name, change in changes.items():
        table.add_row(name, f"{change.value:+.4f}", f"{change.low:+.4f} to {change.high:+.4f}")
    OUT.print(table)


def print_confusion(confusion: Confusion) -> None:
    """A row for each rated emotion, a column for each predicted one."""
    labels = confusion.labels
    table = Table(Column("rated, then predicted", no_wrap=True), *labels, title="dominant emotion")
    for label, row in zip(labels, confusion.counts, strict=True):
        table.add_row(label, *(f"{count:g}" for count in row))
    OUT.print(table)


def print_study(rows: Sequence[Row]) -> None:
    """The study's table."""
    table = Table(*cells_of(None))
    for row in rows:
        table.add_row(*cells_of(row))
    OUT.print(table)
