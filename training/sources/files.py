"""Where the pictures of a database are, whether they can be opened, and which are the same."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from app.picture import FORMATS, MAX_PIXELS
from training.affective_set import DataError, listing
from training.near_duplicates import group_hashes, merge_groups, perceptual_hashes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from training.affective_set import AffectiveSet

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")

_log = logging.getLogger(__name__)


def find(folder: Path, name: str) -> Path:
    """The file that a table in `folder` means by `name`; a path that does not exist if there is none.

    It is looked for in the folder and in its ``images`` folder, and with each picture suffix if the name
    has none.
    """
    name = name.replace("\\", "/")  # tables come from Windows too
    plain = not name.lower().endswith(SUFFIXES)
    endings = ("", *SUFFIXES, *(suffix.upper() for suffix in SUFFIXES)) if plain else ("",)
    places = [place / f"{name}{ending}" for place in (folder, folder / "images") for ending in endings]
    return next((place for place in places if place.is_file()), places[0])


def group_ids(names: Sequence[str]) -> NDArray[np.int64]:
    """Numbers ``[N]``, equal where the N names of groups are; an empty name is a group of its own."""
    keys = [("named", name) if name else ("alone", str(row)) for row, name in enumerate(names)]
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
