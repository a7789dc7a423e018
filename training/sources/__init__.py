"""Databases of rated pictures, one file each: a reader takes a path and options and knows its layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.affective_set import DataError
from training.sources import cap_d, emotion6, fi, image_folder
from training.sources.files import check_pictures
from training.sources.options import DEFAULTS, SourceOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from training.affective_set import AffectiveSet

__all__ = ["SOURCES", "SourceOptions", "load", "load_unrated"]

SOURCES: dict[str, Callable[[Path, SourceOptions], AffectiveSet]] = {
    "cap_d": cap_d.read,
    "emotion6": emotion6.read,
    "fi": fi.read,
    "image_folder": image_folder.read,
}


def load(kind: str, path: Path, options: SourceOptions = DEFAULTS) -> AffectiveSet:
    """Read a database, make sure that its pictures can be used, and group its near-duplicates.

    Args:
        kind: one of `SOURCES`.
        path: the folder of the database; for ``cap_d``, the table.
        options: see `SourceOptions`.

    Raises:
        DataError: everything that is wrong with the table, or else with the pictures.
    """
    if kind not in SOURCES:
        raise DataError(f"there is no source {kind!r}; there are {', '.join(SOURCES)}")
    return _checked(SOURCES[kind](path, options), options)


def load_unrated(path: Path, labels: Sequence[str], options: SourceOptions = DEFAULTS) -> AffectiveSet:
    """Find the pictures in a folder, that nobody rated for `labels`, and make sure that they can be used.

    Raises:
        DataError: there is no picture, or one cannot be used.
    """
    return _checked(image_folder.read_unrated(path, labels, options), options)


def _checked(read: AffectiveSet, options: SourceOptions) -> AffectiveSet:
    return check_pictures(read, skip_missing=options.skip_missing, near_duplicates=options.near_duplicates)
