"""A checkpoint's predictions on rated pictures, made by the lines that serve it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch

from training.head import channels_last
from training.pictures import RatedPictures, batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from app.checkpoint import Checkpoint
    from training.affective_set import AffectiveSet
    from training.metrics import Floats

BATCH = 16


class EvaluationError(Exception):
    """The checkpoint cannot be scored on these pictures; the message says why."""


@torch.no_grad()
def logits_of(checkpoint: Checkpoint, rated: AffectiveSet, indices: NDArray[np.int64]) -> Floats:
    """Logits ``[N, K]`` of the pictures at `indices`, decoded and resized as the service does.

    Raises:
        EvaluationError: the set's emotions are not the checkpoint's.
    """
    check_labels(checkpoint.card.labels, rated)
    pictures = RatedPictures(rated, indices, side=checkpoint.card.input_size)
    logits = [
        checkpoint.network(channels_last(inputs, checkpoint.device)).double().cpu()
        for inputs, _ in batches(pictures, batch=BATCH)
    ]
    return np.asarray(torch.cat(logits))


def check_labels(known: Sequence[str], rated: AffectiveSet) -> None:
    """Make sure that the pictures are rated for the emotions that were learned, in the same order.

    Raises:
        EvaluationError: they are not.
    """
    if rated.labels != tuple(known):
        raise EvaluationError(
            f"the checkpoint knows {', '.join(known)}; the pictures are rated for {', '.join(rated.labels)}"
        )


def probabilities(logits: Floats, temperature: float) -> Floats:
    """Softmax of logits ``[N, K]`` at a temperature."""
    return np.asarray(torch.softmax(torch.from_numpy(logits) / temperature, dim=1))


def fingerprint(rated: AffectiveSet, indices: NDArray[np.int64]) -> str:
    """A digest of which pictures these are, by name; it tells whether two splits are the same."""
    names = sorted(f"{rated.pictures[i].parent.name}/{rated.pictures[i].name}" for i in indices)
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
