from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from training.affective_set import DataError
from training.sources.table import read_table

if TYPE_CHECKING:
    from pathlib import Path

HEADER = ("file", "awe, wonder", "fear")
ROWS = (("a.jpg", "0.25", "0.75"), ("b.jpg", "", "1"))


@pytest.mark.parametrize(
    "text",
    [
        'file,"awe, wonder",fear\na.jpg,0.25,0.75\nb.jpg,,1\n',
        "file;awe, wonder;fear\r\na.jpg;0.25;0.75\r\nb.jpg;;1\r\n",
        "file\tawe, wonder\tfear\na.jpg\t0.25\t0.75\nb.jpg\t\t1",
        '\n  \nfile,"awe, wonder",fear\n\na.jpg , 0.25,0.75\n,,\nb.jpg,,1\n\n',
        'file,"awe, wonder",fear,,\na.jpg,0.25,0.75,,\nb.jpg,,1\n',
    ],
    ids=["commas", "semicolons", "tabs", "blank lines", "trailing separators"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_tables(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode(encoding))
    table = read_table(path)
    assert table.header == HEADER
    assert table.rows == ROWS
    assert table.column("fear") == ["0.75", "1"]


def test_rows_are_numbered_as_in_the_file(tmp_path: Path) -> None:
    text = tmp_path / "table.csv"
    text.write_text("\nfile,a\n\nx,1\n\n\ny,2\n")
    assert read_table(text).numbers == (4, 7)
    sheet = tmp_path / "table.xlsx"
    blank = [None, None]
    pd.DataFrame([blank, ["file", "a"], blank, ["x", 1], [101, 0.5]]).to_excel(
        sheet, header=False, index=False
    )
    table = read_table(sheet)
    assert table.numbers == (4, 5)
    assert table.rows == (("x", "1"), ("101", "0.5"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rows"),
        ("file,a,b\n", "has no rows"),
        ("file,a,a\nx,1,2\n", "column 'a' is there 2 times"),
        ("file,,b\nx,1,2\n", "column 2 has no name"),
        ("file,a,b\nx,0,25,0,75\n", "row 2: more cells than the header"),
        ('file,a\nx,1\ny,"1\n', "row 3: unexpected end of data; look at its quotation marks"),
        ('"file,a\n' + "x,1\n" * 40_000, "row 1: field larger than field limit"),
        ('file,a\nx,1\n"y,1\n' + "z,1\n" * 40_000, "row 3: field larger than field limit"),
    ],
)
def test_what_is_not_one_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_table(path)


def test_files_that_are_no_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no table at"):
        read_table(tmp_path)
    latin = tmp_path / "latin.csv"
    latin.write_bytes("file;Empörung;Ärger\nx;1;2".encode("cp1252"))
    with pytest.raises(DataError, match="is not UTF-8"):
        read_table(latin)
    fake = tmp_path / "fake.xlsx"
    fake.write_text("file,a\nx,1")
    with pytest.raises(DataError, match=r"is not an \.xlsx file"):
        read_table(fake)
    fake.write_bytes(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(504))  # a container of encrypted parts
    with pytest.raises(DataError, match="protected by a password"):
        read_table(fake)
    with zipfile.ZipFile(fake, "w") as archive:
        archive.writestr("[Content_Types].xml", "<not")
    with pytest.raises(DataError, match=r"is not an \.xlsx file"):
        read_table(fake)


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("file,a\nx,1")
    with pytest.raises(DataError, match="no column 'b'; its columns are file, a"):
        read_table(path).column("b")


def test_a_short_row_ends_in_empty_cells(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("file,a,b\nx,1\n")
    assert read_table(path).rows == (("x", "1", ""),)
