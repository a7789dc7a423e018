"""A table of text cells out of a file that a spreadsheet or a script wrote."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from training.affective_set import DataError

if TYPE_CHECKING:
    from pathlib import Path

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_OLD_OFFICE = b"\xd0\xcf\x11\xe0"  # also how a workbook begins that a password protects


@dataclass(frozen=True)
class Table:
    """A header and rows of stripped text.

    Attributes:
        path: the file.
        header: names of the columns, all different, none empty.
        rows: as many cells each as the header; an empty cell is "".
        numbers: of each row in the file, for messages; the header is usually 1.
    """

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[int, ...]

    def column(self, name: str) -> list[str]:
        """The cells of a column.

        Raises:
            DataError: there is no such column.
        """
        if name not in self.header:
            raise DataError(f"{self.path} has no column {name!r}; its columns are {', '.join(self.header)}")
        place = self.header.index(name)
        return [row[place] for row in self.rows]


def read_table(path: Path) -> Table:
    """Read the first sheet of an ``.xlsx`` file, or text separated by commas, semicolons or tabs.

    The separator is the one that divides the header most. Blank lines and nameless empty columns are left
    out, and short rows are filled with empty cells: Excel leaves out trailing separators.

    Raises:
        DataError: the file is missing, cannot be read, has no rows, or has rows longer than its header.
    """
    if not path.is_file():
        raise DataError(f"there is no table at {path}")
    lines = _read_sheet(path) if path.suffix.lower() == ".xlsx" else _read_text(path)
    filled = [(number, cells) for number, cells in lines if any(cells)]
    if len(filled) < 2:  # noqa: PLR2004 - a header and a row
        raise DataError(f"{path} has no rows")
    width = max(place + 1 for place, name in enumerate(filled[0][1]) if name)
    header, *rows = [(number, [*cells, *[""] * (width - len(cells))]) for number, cells in filled]
    _check_shape(path, header[1][:width], rows)
    named = [place for place, name in enumerate(header[1][:width]) if name]
    return Table(
        path,
        header=tuple(header[1][place] for place in named),
        rows=tuple(tuple(cells[place] for place in named) for _, cells in rows),
        numbers=tuple(number for number, _ in rows),
    )


def _check_shape(path: Path, header: list[str], rows: list[tuple[int, list[str]]]) -> None:
    problems = [
        f"column {name!r} is there {header.count(name)} times"
        for name in dict.fromkeys(header)
        if name and header.count(name) > 1
    ]
    problems += [
        f"column {place + 1} has no name"
        for place, name in enumerate(header)
        if not name and any(cells[place] for _, cells in rows)
    ]
    problems += [
        f"row {number}: more cells than the header has columns"
        for number, cells in rows
        if any(cells[len(header) :])
    ]
    if problems:
        raise DataError(f"{path} is not one table", problems)


def _read_text(path: Path) -> list[tuple[int, list[str]]]:
    data = path.read_bytes()
    encoding = "utf-16" if data.startswith(_UTF16_MARKS) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text; save it as CSV in UTF-8, or as .xlsx") from error
    separator = max(",;\t", key=lambda mark: _header_width(text, mark))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        rows.extend((reader.line_num, [cell.strip() for cell in cells]) for cells in reader)
    except csv.Error as error:
        begun = rows[-1][0] + 1 if rows else 1  # a quote that is never closed takes in all that follows
        raise DataError(f"{path}, row {begun}: {error}; look at its quotation marks") from error
    return rows


def _header_width(text: str, separator: str) -> int:
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        return next((len(cells) for cells in lines if any(cell.strip() for cell in cells)), 0)
    except csv.Error:  # the reader of all rows will say where
        return 0


def _read_sheet(path: Path) -> list[tuple[int, list[str]]]:
    with path.open("rb") as file:
        if file.read(len(_OLD_OFFICE)) == _OLD_OFFICE:
            raise DataError(
                f"{path} is protected by a password, or an .xls file by another name; save it as .xlsx "
                "without a password, or as CSV in UTF-8"
            )
    try:
        sheet = pd.read_excel(path, header=None, dtype=object, na_filter=False, engine="openpyxl")
    except (MemoryError, ImportError):
        raise
    except Exception as error:  # a parser may raise anything on a damaged file
        raise DataError(f"{path} is not an .xlsx file that can be read: {error}") from error
    rows = sheet.itertuples(index=False, name=None)
    return [(number, [_text_of(cell) for cell in cells]) for number, cells in enumerate(rows, 1)]


def _text_of(cell: object) -> str:
    # What a formula has failed at comes as a float, and would pass for a missing value.
    failed = isinstance(cell, float) and math.isnan(cell)
    return "an error of the spreadsheet" if failed else str(cell).strip()
