"""Databases of rated pictures, one file each: a reader takes a path and options and knows its layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.affective_set import DataError
from training.sources import cap_d, emotion6, fi, image_folder
from training.sources.files import check_pictures
from training.sources.options import DEFAULTS, SourceOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from training.affective_set import AffectiveSet

__all__ = ["SOURCES", "SourceOptions", "load"]

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
    return check_pictures(
        SOURCES[kind](path, options),
        skip_missing=options.skip_missing,
        near_duplicates=options.near_duplicates,
    )
