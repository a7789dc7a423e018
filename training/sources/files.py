"""Where the pictures of a database are, whether they can be opened, and which are the same."""

from __future__ import annotations

import logging
import unicodedata
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from app.picture import FORMATS, MAX_PIXELS
from training.affective_set import DataError, listing
from training.near_duplicates import group_hashes, merge_groups, perceptual_hashes
from training.sources.units import is_missing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from training.affective_set import AffectiveSet
    from training.sources.table import Table

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")

_log = logging.getLogger(__name__)


def find_all(table: Table, column: str) -> tuple[tuple[Path, ...], list[str]]:
    """The files that a column of a table means, and the rows that may mean several, as problems.

    They are looked for in the table's folder and in its ``images`` folder, and with each picture suffix if
    the name has none. Where there is none, one whose name looks the same is taken. A picture that is
    nowhere gets a path that does not exist.
    """
    listed = _Listed()
    found, problems = [], []
    for number, cell in zip(table.numbers, table.column(column), strict=True):
        files = _meant(table.path.parent, cell, listed)
        found.append(files[0])
        if len(files) > 1:
            names = " or ".join(file.name for file in files)
            problems.append(f"row {number}: {cell} may be {names}; name it as its file is named")
    return tuple(found), problems


def _meant(folder: Path, name: str, listed: _Listed) -> list[Path]:
    """The file that a table in `folder` means by `name`; or several, or one that does not exist."""
    name = name.replace("\\", "/")  # tables come from Windows too
    plain = not name.lower().endswith(SUFFIXES)
    endings = ("", *SUFFIXES, *(suffix.upper() for suffix in SUFFIXES)) if plain else ("",)
    wanted = [(place, f"{name}{ending}") for place in (folder, folder / "images") for ending in endings]
    for place in (folder, folder / "images"):
        if (place / name).is_file():
            return [place / name]
        files: list[Path] = []
        for ending in endings[1:]:  # where capitals are all the same, one file is there by several names
            file = place / f"{name}{ending}"
            if file.is_file() and not any(file.samefile(known) for known in files):
                files.append(file)
        if files:
            return files
    for place, path in wanted:
        if files := listed.alike(place, path):
            return files
    return [folder / name]


class _Listed:
    """What is in folders, by names that are equal where they look the same; each folder is listed once.

    A Mac writes an umlaut as two characters, which a zip file keeps, and Windows does not tell BEACH.JPG
    from beach.jpg.
    """

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, list[str]]] = {}

    def alike(self, place: Path, path: str) -> list[Path]:
        """The files under `place` whose way looks like `path`."""
        found = [place]
        for part in path.split("/"):
            if part in {"", ".", ".."}:
                found = [each / part for each in found]
            else:
                found = [each / name for each in found for name in self._names(each).get(_look(part), ())]
        return [each for each in found if each.is_file()]

    def _names(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._folders:
            names: dict[str, list[str]] = {}
            for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
                names.setdefault(_look(entry.name), []).append(entry.name)
            self._folders[folder] = names
        return self._folders[folder]


def _look(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())


def group_ids(names: Sequence[str]) -> NDArray[np.int64]:
    """Numbers ``[N]``, equal where the N names of groups are; a missing name is a group of its own."""
    keys = [("alone", str(row)) if is_missing(name) else ("named", name) for row, name in enumerate(names)]
    order = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([order[key] for key in keys], np.int64)


def check_pictures(affective_set: AffectiveSet, *, skip_missing: bool, near_duplicates: bool) -> AffectiveSet:
    """Make sure that every picture can be used, and group near-duplicates.

    Args:
        affective_set: as a source read it; its own groups are kept and may grow.
        skip_missing: leave out the pictures that are missing or unreadable, and log which.
        near_duplicates: decode every picture and compare. Otherwise only their headers are read.

    Raises:
        DataError: pictures are missing or unreadable and may not be skipped, or none is left.
    """
    hashes = np.zeros(len(affective_set), np.uint64)
    if near_duplicates:
        hashes, problems = perceptual_hashes(affective_set.pictures)
    else:
        problems = _header_problems(affective_set.pictures)
    if problems:
        lines = list(problems.values())
        summary = f"{len(problems)} of {len(affective_set)} pictures of {affective_set.name} cannot be read"
        if not skip_missing:
            raise DataError(summary, lines)
        _log.warning("%s and are left out:\n%s", summary, listing(lines))
        usable = np.setdiff1d(np.arange(len(affective_set)), list(problems))
        affective_set, hashes = affective_set.subset(usable), hashes[usable]
    if near_duplicates:
        groups = merge_groups(affective_set.groups, group_hashes(hashes))
        affective_set = replace(affective_set, groups=groups)
    return affective_set


def _header_problems(pictures: Sequence[Path]) -> dict[int, str]:
    problems = {}
    for index, path in enumerate(pictures):
        try:
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    problems[index] = f"{path}: more than {MAX_PIXELS:,} pixels"
                image.verify()
        except FileNotFoundError:
            problems[index] = f"{path}: no such file"
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a parser may raise anything on a damaged file
            problems[index] = f"{path}: {error}"
    return problems
