"""A checkpoint's predictions on rated pictures, made by the lines that serve it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
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


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a network says of N pictures.

    Attributes:
        logits: ``[N, K]``.
        novelty: ``[N]``; None for a network that cannot tell.
    """

    logits: Floats
    novelty: Floats | None


@torch.no_grad()
def outputs_of(checkpoint: Checkpoint, rated: AffectiveSet, indices: NDArray[np.int64]) -> Outputs:
    """Logits and novelty of the pictures at `indices`, decoded and resized as the service does.

    Raises:
        EvaluationError: the set's emotions are not the checkpoint's, or there is no picture.
    """
    check_labels(checkpoint.card.labels, rated)
    if not len(indices):
        raise EvaluationError("there is no picture to score")
    pictures = RatedPictures(rated, indices, side=checkpoint.card.input_size)
    logits, novelty = [], []
    for inputs, _ in batches(pictures, batch=BATCH):
        shown = channels_last(inputs, checkpoint.device)
        if hasattr(checkpoint.network, "judge"):
            found, distance = checkpoint.network.judge(shown)
            novelty.append(distance.double().cpu())
        else:
            found = checkpoint.network(shown)
        logits.append(found.double().cpu())
    return Outputs(np.asarray(torch.cat(logits)), np.asarray(torch.cat(novelty)) if novelty else None)


def logits_of(checkpoint: Checkpoint, rated: AffectiveSet, indices: NDArray[np.int64]) -> Floats:
    """The logits ``[N, K]`` of `outputs_of` alone."""
    return outputs_of(checkpoint, rated, indices).logits


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


def identity(rated: AffectiveSet) -> str:
    """A digest of all that decides how pictures are divided and what is learned of them, in their order."""
    names = "\n".join(f"{path.parent.name}/{path.name}" for path in rated.pictures)
    parts = (names.encode(), rated.agreement.tobytes(), rated.groups.tobytes())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def fingerprint(rated: AffectiveSet, indices: NDArray[np.int64]) -> str:
    """A digest of which pictures these are, by name; it tells whether two splits are the same."""
    names = sorted(f"{rated.pictures[i].parent.name}/{rated.pictures[i].name}" for i in indices)
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
