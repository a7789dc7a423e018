"""Pictures made by code, for tests of the data side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path


def scene(seed: int, side: int = 64) -> Image.Image:
    """Soft random blobs; another seed looks different, to a perceptual hash too."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def draw(path: Path, seed: int = 0) -> Path:
    """Save a scene in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scene(seed).save(path)
    return path


def truncate(path: Path) -> Path:
    """Cut a picture off in the middle of its pixels: its header stays good."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    return path
