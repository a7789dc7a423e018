"""From what was typed to the pictures that are meant."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.table import Table

from training.division import describe_split, split_as
from training.partition import split
from training.phases import terminal
from training.sources import SourceOptions, load_unrated
from training.sources import load as load_source
from training.sources.options import NOT_STATED

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from app.card import Split
    from training.affective_set import AffectiveSet
    from training.partition import Partition


def filtered(
    chosen: argparse.Namespace, min_agreement: float | None, top_classes: int | None
) -> AffectiveSet:
    """The pictures that are asked for, after a table of how often each emotion dominates."""
    whole = whole_set(chosen)
    kept = keep(whole, min_agreement, top_classes)
    before, after = whole.frequencies(), kept.frequencies()
    table = Table("dominant emotion", "pictures", "after filtering", title=whole.name)
    for label, count in before.items():
        table.add_row(label, str(count), str(after.get(label, 0)))
    table.add_row("all", str(len(whole)), str(len(kept)))
    table.add_row("of them ties", str(whole.ties), str(kept.ties))
    _aside(table)
    return kept


def whole_set(chosen: argparse.Namespace) -> AffectiveSet:
    """All pictures of the database."""
    return load_source(chosen.source, chosen.path, _described(chosen))


def to_rate(chosen: argparse.Namespace, labels: tuple[str, ...]) -> AffectiveSet:
    """All pictures of the database, whose own ratings nobody will look at; those in folders need none."""
    if chosen.source == "image_folder":
        return load_unrated(chosen.path, labels, _described(chosen))
    return whole_set(chosen)


def with_labels(chosen: argparse.Namespace, labels: tuple[str, ...]) -> AffectiveSet:
    """All pictures of the database that one of these emotions dominates."""
    whole = whole_set(chosen)
    if whole.labels == labels:
        return whole
    kept = whole.only(labels)
    _aside(f"{len(whole) - len(kept)} of {len(whole)} pictures are left out: other emotions dominate them")
    return kept


def _aside(said: Table | str) -> None:
    """Tell what is no result; of several processes, the first does."""
    terminal().print(said)


def other_set(chosen: argparse.Namespace, kind: str, path: Path) -> AffectiveSet:
    """The filtered pictures of another database, read in the same way; names and terms are not its own."""
    options = replace(_described(chosen), name=None, terms=NOT_STATED, citation=NOT_STATED)
    return keep(load_source(kind, path, options), chosen.min_agreement, chosen.top_classes)


def _described(chosen: argparse.Namespace) -> SourceOptions:
    return SourceOptions(
        skip_missing=chosen.skip_missing,
        unit=chosen.unit,
        picture_column=chosen.picture_column,
        raters_column=chosen.raters_column,
        group_column=chosen.group_column,
        ignore_columns=tuple(chosen.ignore_column),
        name=chosen.name,
        terms=chosen.terms,
        citation=chosen.citation,
    )


def keep(whole: AffectiveSet, min_agreement: float | None, top_classes: int | None) -> AffectiveSet:
    """The pictures with so much agreement, of so many most common emotions; None filters nothing."""
    kept = whole if min_agreement is None else whole.keep_agreement(min_agreement)
    return kept if top_classes is None else kept.top_classes(top_classes)


def divided(
    chosen: argparse.Namespace,
    *,
    seed: int,
    test_share: float,
    validation_share: float,
    with_test: bool = False,
) -> tuple[AffectiveSet, Partition, Split]:
    """The filtered pictures in parts, and what makes these parts again."""
    rated = filtered(chosen, chosen.min_agreement, chosen.top_classes)
    partition = split(
        rated, seed=seed, test_share=test_share, validation_share=validation_share, with_test=with_test
    )
    described = describe_split(
        rated,
        partition,
        seed=seed,
        min_agreement=chosen.min_agreement,
        top_classes=chosen.top_classes,
        test_share=test_share,
        validation_share=validation_share,
        with_test=with_test,
    )
    return rated, partition, described


def divided_as(recorded: Split, chosen: argparse.Namespace) -> tuple[AffectiveSet, Partition]:
    """The pictures in the parts that were written down."""
    rated = filtered(chosen, recorded.min_agreement, recorded.top_classes)
    return rated, split_as(recorded, rated)


def command(chosen: argparse.Namespace, *leave_out: str) -> str:
    """The command line as somebody else would type it."""
    return shlex.join(["python", "-m", "training", *(word for word in chosen.words if word not in leave_out)])
