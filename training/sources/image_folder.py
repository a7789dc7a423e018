"""Pictures sorted into folders: one folder a label; or pictures that nobody rated, in any folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from training.affective_set import AffectiveSet, DataError
from training.sources.files import SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from training.sources.options import SourceOptions


def read(path: Path, options: SourceOptions) -> AffectiveSet:
    """Find the pictures in each folder, at any depth; labels are in alphabetical order.

    Only JPEG, PNG and WebP files count, by suffix. Hidden files and folders do not. The raters are unknown.

    Raises:
        DataError: there is no such folder, fewer than two folders in it, or no picture in one of them.
    """
    if not path.is_dir():
        raise DataError(f"there is no folder {path}")
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    found = [_pictures_in(folder) for folder in folders]
    empty = [f"{folder.name}: no picture" for folder, files in zip(folders, found, strict=True) if not files]
    if len(folders) < 2 or empty:  # noqa: PLR2004 - a choice needs two
        raise DataError(f"{path} must hold two or more folders of pictures", empty)
    classes = np.repeat(np.arange(len(folders)), [len(files) for files in found])
    return AffectiveSet(
        options.name or path.resolve().name,
        labels=tuple(folder.name for folder in folders),
        pictures=tuple(file for files in found for file in files),
        agreement=np.eye(len(folders))[classes],
        raters=None,
        groups=np.arange(len(classes)),
        terms=options.terms,
        citation=options.citation,
    )


def read_unrated(path: Path, labels: Sequence[str], options: SourceOptions) -> AffectiveSet:
    """Find the pictures in a folder, at any depth, of which nobody has said which of `labels` they evoke.

    What the folders are called does not matter. The agreement is the same for all emotions, as for a picture
    of which nothing is known.

    Raises:
        DataError: there is no such folder, or no picture in it.
    """
    if not path.is_dir():
        raise DataError(f"there is no folder {path}")
    files = _pictures_in(path)
    if not files:
        raise DataError(f"there is no picture in {path}")
    return AffectiveSet(
        options.name or path.resolve().name,
        labels=tuple(labels),
        pictures=tuple(files),
        agreement=np.full((len(files), len(labels)), 1 / len(labels)),
        raters=None,
        groups=np.arange(len(files)),
        terms=options.terms,
        citation=options.citation,
    )


def _pictures_in(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )
