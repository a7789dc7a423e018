"""Which pictures are meant by a file, a folder, a pattern or a list."""

from __future__ import annotations

import codecs
import csv
import glob
import hashlib
import io
import mimetypes
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PATH_COLUMN = "path"
"""The column of a CSV list that is read, and of every table that is written."""

_TYPES = mimetypes.MimeTypes(filenames=())  # Python's own table: the same pictures on every machine
for _suffix in (".jfif", ".pjpeg", ".mpo"):
    _TYPES.add_type("image/jpeg", _suffix)
_TYPES.add_type("image/png", ".apng")
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8")
_LINKED = "linked folders"
_HIDDEN = "hidden"


class ListingError(Exception):
    """The pictures cannot be listed; the message says why."""


@dataclass(frozen=True)
class Listing:
    """The pictures that were meant, in order.

    Attributes:
        paths: as they were given, or below a folder as it was given. Bytes of a name that are not UTF-8 are
            kept as Python does it, by surrogates.
        passed_over: what lies in the folders and was not taken, by kind: a suffix, mostly.
    """

    paths: tuple[str, ...]
    passed_over: Counter[str] = field(default_factory=Counter)

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 that changes when any path or their order does."""
        return hashlib.sha256(b"\0".join(map(os.fsencode, self.paths))).hexdigest()


def named(arguments: Iterable[str]) -> Listing:
    """Files, folders and patterns one after the other; whatever is none of them is taken for a file.

    Raises:
        ListingError: a folder cannot be read.
    """
    paths: list[str] = []
    passed_over: Counter[str] = Counter()
    for argument in arguments:
        matching = [] if _is_there(argument) or not glob.has_magic(argument) else _matching(argument)
        for each in matching or [argument]:  # a pattern of nothing will not be found
            if _is_folder(each):
                found = in_folder(each)
                paths += found.paths
                passed_over += found.passed_over
            else:
                paths.append(each)
    return Listing(tuple(paths), passed_over)


def _is_there(path: str) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - Path's own raises for a name that is too long


def _is_folder(path: str) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - likewise


def _matching(pattern: str) -> list[str]:
    return sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern


def in_folder(folder: str) -> Listing:
    """Every file below a folder that has a picture's suffix, in the order of their names.

    Formats that are not read are listed too, so that somebody learns that they were not scored. Hidden files,
    among them the ``._`` twins that some systems leave, and folders that are only linked to, are not.

    Raises:
        ListingError: a folder cannot be read.
    """
    paths: list[str] = []
    passed_over: Counter[str] = Counter()

    def refuse(error: OSError) -> None:
        raise ListingError(f"the folder {error.filename} cannot be read: {error.strerror}") from error

    for parent, folders, files in os.walk(folder, onerror=refuse):
        passed_over[_LINKED] += sum(Path(parent, name).is_symlink() for name in folders)
        passed_over[_HIDDEN] += sum(name.startswith(".") for name in files)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.startswith("."):
                continue
            suffix = Path(name).suffix
            kind, _ = _TYPES.guess_type(f"x{suffix}", strict=False)  # a whole name may be taken for a URL
            if kind is not None and kind.startswith("image/"):
                paths.append(os.path.join(parent, name))  # noqa: PTH118 - as given: "./a" stays "./a"
            else:
                passed_over[suffix.lower() or "without a suffix"] += 1
    return Listing(tuple(sorted(paths)), +passed_over)


def in_list(lines: Sequence[str], *, table: bool) -> Listing:
    """The pictures of a list: one a line, or one a row of a table.

    Args:
        lines: with their ends.
        table: CSV. Its column ``path`` is taken, or else the first column of all rows.
    """
    if not table:
        return Listing(tuple(filter(None, (line.rstrip("\r\n") for line in lines))))
    rows = [row for row in csv.reader(lines) if row]
    column = 0
    if rows and PATH_COLUMN in rows[0]:
        column = rows[0].index(PATH_COLUMN)
        del rows[0]
    return Listing(tuple(row[column] for row in rows if len(row) > column and row[column]))


def folder_or_list(path: str) -> Listing:
    """The pictures of a folder, or of a file that lists them; a relative path starts from here, not there.

    Raises:
        ListingError: there is nothing there, or it cannot be read.
    """
    if _is_folder(path):
        return in_folder(path)
    try:
        data = Path(path).read_bytes()
        if data.startswith(_PICTURES):
            raise ListingError(f"{path} is a picture, and neither a folder nor a list of pictures")
        # The names have the bytes that the list has, whatever the locale's encoding.
        text = os.fsdecode(data.removeprefix(codecs.BOM_UTF8))
        lines = io.StringIO(text, newline="").readlines()
        return in_list(lines, table=path.lower().endswith(".csv"))
    except OSError as error:
        raise ListingError(f"{path} cannot be read: {error.strerror}") from error
    except csv.Error as error:
        raise ListingError(f"{path} is not a CSV table: {error}") from error
