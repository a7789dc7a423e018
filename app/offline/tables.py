"""The tables that a scoring ends with: CSV, or Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
import importlib.util
import itertools
from typing import TYPE_CHECKING, Any

from app.distribution import described
from app.offline.files import as_text, replacing
from app.offline.journal import shortest
from app.offline.listing import PATH_COLUMN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from app.card import Card
    from app.offline.journal import Entry

SUFFIXES = (".csv", ".parquet")
ROWS_AT_ONCE = 65_536
"""Rows of one row group of a Parquet file, and so the most that are held in memory."""

_AFTER = {  # the columns after the emotions', and the type that Parquet gives them
    "dominant": "string",
    "entropy": "float",
    "valence": "float",
    "novelty": "float",
    "abstained_because": "string",
    "width": "int32",
    "height": "int32",
    "model": "string",
}


class TableError(Exception):
    """A table of this kind cannot be written; the message says what to do."""


def check(path: Path, card: Card) -> None:
    """Find out before the work begins whether its result can be written.

    Raises:
        TableError: the suffix is unknown, pyarrow is missing, the folder is missing, there is a folder of
            that name, or a label has the name of another column.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise TableError(f"{path.name} should end in {' or '.join(SUFFIXES)}, which decides its format")
    if suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise TableError("Parquet needs pyarrow: pip install 'deepemotion[parquet]', or write .csv")
    if not path.parent.is_dir():
        raise TableError(f"there is no folder {path.parent}")
    if path.is_dir():
        raise TableError(f"{path} is a folder")
    for label in card.labels:
        if label in {PATH_COLUMN, *_AFTER}:
            raise TableError(f"the checkpoint has an emotion named {label!r}, as another column is")


def write_scores(path: Path, card: Card, entries: Iterable[Entry], about: Mapping[str, str]) -> None:
    """One row for each picture that has an answer.

    The columns are ``path``, one for each label with its probability, ``dominant``, ``entropy`` in nats,
    ``valence`` if the card has it, ``novelty`` and ``abstained_because`` (or empty) if the card has
    thresholds, ``width`` and ``height`` in pixels, ``model`` as name@version. Figures are single precision.
    The file is there whole or not at all.

    Args:
        path: its suffix decides the format.
        card: of the checkpoint that answered.
        entries: in the order of the rows.
        about: what a Parquet file's metadata say of its origin.
    """
    after = _after(card)
    rows = (_row(card, after, entry) for entry in entries if not entry.refused)
    with replacing(path) as unfinished:
        if path.suffix.lower() == ".csv":
            _write_csv(unfinished, (PATH_COLUMN, *card.labels, *after), rows)
        else:
            _write_parquet(unfinished, card.labels, after, rows, about)


def write_errors(path: Path, entries: Iterable[Entry]) -> None:
    """One row for each picture without an answer: its path, the kind of problem, and what went wrong."""
    rows = ((entry.path, entry.problem, entry.detail) for entry in entries if entry.refused)
    with replacing(path) as unfinished:
        _write_csv(unfinished, (PATH_COLUMN, "problem", "detail"), rows)


def _after(card: Card) -> tuple[str, ...]:
    """The columns after the emotions: those that the checkpoint can tell."""
    unknown = set() if card.valence is not None else {"valence"}
    if card.abstain is None:
        unknown |= {"novelty", "abstained_because"}
    return tuple(name for name in _AFTER if name not in unknown)


def _row(card: Card, after: Sequence[str], entry: Entry) -> tuple[Any, ...]:
    said = described(card, entry.probabilities, entry.novelty)
    cells = {
        "dominant": said["dominant"]["emotion"],
        "entropy": shortest(said["entropy"]),
        "valence": None if said["valence"] is None else shortest(said["valence"]),
        "novelty": entry.novelty,
        "abstained_because": said["abstained_because"] or "",
        "width": entry.width,
        "height": entry.height,
        "model": card.release,
    }
    return (entry.path, *entry.probabilities, *(cells[name] for name in after))


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    # Names that are not UTF-8 are written with the bytes that they have, so that they still name the file.
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        careful = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writerow(columns)
        for row in rows:  # a \r in a name ends a line for readers, and is not quoted by older Pythons
            (careful if any("\r" in str(cell) for cell in row) else writer).writerow(row)


def _write_parquet(
    path: Path,
    labels: Sequence[str],
    after: Sequence[str],
    rows: Iterator[tuple[Any, ...]],
    about: Mapping[str, str],
) -> None:
    import pyarrow as pa  # noqa: PLC0415 - an extra, and slow to import
    from pyarrow import parquet  # noqa: PLC0415

    schema = pa.schema(
        [
            (PATH_COLUMN, pa.string()),
            *((label, pa.float32()) for label in labels),
            *((name, pa.type_for_alias(_AFTER[name])) for name in after),
        ],
        metadata=about,
    )
    with parquet.ParquetWriter(path, schema) as writer:
        while group := list(itertools.islice(rows, ROWS_AT_ONCE)):
            paths, *others = zip(*group, strict=True)
            readable = [as_text(name) for name in paths]  # Parquet's text is always UTF-8
            writer.write_table(pa.table([readable, *map(list, others)], schema=schema))
