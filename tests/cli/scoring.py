"""Pictures to score, and the verb as a process of its own."""

from __future__ import annotations

import csv
import os
import sys
from typing import TYPE_CHECKING

from tests.pictures import BLUE, GREEN, RED, encoded, noise, plain

if TYPE_CHECKING:
    from pathlib import Path

BAD = {"pictures/b.png": b"GIF89a", "pictures/deep/e.jpg": encoded(noise((90, 90)), "JPEG")[:2000]}
GOOD = {
    "pictures/a.png": plain(RED, (30, 20)),
    "pictures/c.jpg": plain(GREEN, (40, 20), "JPEG"),
    "pictures/deep/d.webp": plain(BLUE, (50, 20), "WEBP"),
    "pictures/f.png": plain(RED, (60, 20)),
}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "app", "score", *map(str, arguments)]


def slow(checkpoint: Path) -> dict[str, str]:
    """An environment for a process that takes a while for each batch."""
    return os.environ | {
        "DEEPEMOTION_CHECKPOINT": str(checkpoint),
        "DEEPEMOTION_DEVICE": "cpu",
        "DEEPEMOTION_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
