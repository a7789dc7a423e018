"""Photographs to send: real JPEGs of two sizes, made from scikit-image's free photos, the same on every run.

A photo enlarged to 12 megapixels is too smooth to be a camera's: its file would have a quarter of the usual
size. So grain is added, as a sensor does, until the file has 3 to 5 MB.
"""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from skimage import data

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KINDS = {"0.3 MP": (640, 480), "12 MP": (4000, 3000)}
"""Width and height in pixels."""
EACH = 8
"""Different pictures of a kind, so that no cache of a server or a processor helps."""
EACH_SLOW = 3

PHOTOS = ("astronaut", "chelsea", "coffee")  # inside scikit-image's wheel: nothing is downloaded
GRAIN = 7.0  # standard deviation of the luminance, of 255
QUALITY = 90
SHOWN = 0.9  # share of each side of the photo that one picture shows


def make(kind: str, index: int) -> bytes:
    """One JPEG; another `index` gives another picture.

    Args:
        kind: one of `KINDS`.
        index: from 0; chooses the photo, the part of it that is shown, and the grain.
    """
    random = np.random.default_rng(index)
    photo = Image.fromarray(getattr(data, PHOTOS[index % len(PHOTOS)])())
    width, height = KINDS[kind]
    left, top = random.uniform(0, 1 - SHOWN, 2) * photo.size
    shown = (left, top, left + SHOWN * photo.width, top + SHOWN * photo.height)
    return with_grain(photo.resize((width, height), Image.Resampling.LANCZOS, box=shown), random)


def with_grain(large: Image.Image, random: np.random.Generator) -> bytes:
    """The picture as a camera's JPEG."""
    grain = random.normal(0, GRAIN, (large.height, large.width, 1)).astype(np.float32)
    pixels = (np.asarray(large) + grain).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def make_slow(index: int) -> bytes:
    """A PNG of 12 megapixels, which takes far longer to decode than the network takes.

    It has no grain: with it, it would be larger than an upload may be.
    """
    width, height = KINDS["12 MP"]
    photo = Image.fromarray(getattr(data, PHOTOS[index % len(PHOTOS)])())
    box = (index, index, photo.width - index, photo.height - index)
    file = io.BytesIO()
    photo.resize((width, height), Image.Resampling.BILINEAR, box=box).save(file, "PNG", compress_level=3)
    return file.getvalue()


def write_slow(folder: Path) -> list[Path]:
    """Paths of `EACH_SLOW` pictures by `make_slow`; what is there already is left alone."""
    files = [folder / f"{index}.png" for index in range(EACH_SLOW)]
    for index, path in enumerate(files):
        _write(path, partial(make_slow, index))
    return files


def write_all(folder: Path) -> dict[str, list[Path]]:
    """Paths of `EACH` pictures of each kind, in a subfolder for each; what is there already is left alone."""
    paths = {kind: [folder / kind / f"{index}.jpg" for index in range(EACH)] for kind in KINDS}
    for kind, files in paths.items():
        for index, path in enumerate(files):
            _write(path, partial(make, kind, index))
    return paths


def _write(path: Path, made: Callable[[], bytes]) -> None:
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        unfinished.write_bytes(made())
        unfinished.rename(path)
