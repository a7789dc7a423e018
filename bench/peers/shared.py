"""What every peer does alike: the service's own lines decode the picture and run the checkpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from app.checkpoint import Checkpoint, probabilities
from app.loading import load
from app.picture import Pixels, decode

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_BATCH = 8  # as the service's own
TIMEOUT_SECONDS = 120  # long enough that nobody is refused at 64 clients
SIDE = int(os.environ["BENCH_SIDE"])  # of the checkpoint's input; a stage that only decodes need not load it

Answer = dict[str, dict[str, float]]


def load_checkpoint() -> Checkpoint:
    """The checkpoint on the CPU, with as many threads as every contender gets."""
    torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
    return load(Path(os.environ["BENCH_CHECKPOINT"]), torch.device("cpu"))


def as_input(jpeg: bytes) -> Pixels:
    """``uint8 [3, S, S]``."""
    return decode(jpeg, side=SIDE).as_input(SIDE)


def warm_up(checkpoint: Checkpoint) -> None:
    """TorchScript specialises its graph on the second run of a network."""
    for size in (1, 1, 1, MAX_BATCH):
        probabilities(checkpoint, np.zeros((size, 3, SIDE, SIDE), np.uint8))


def classify(checkpoint: Checkpoint, pictures: Sequence[Pixels] | Pixels) -> list[Answer]:
    """One answer for each picture, all in one forward pass."""
    rows = probabilities(checkpoint, np.stack(list(pictures)))
    return [{"distribution": dict(zip(checkpoint.card.labels, row.tolist(), strict=True))} for row in rows]
