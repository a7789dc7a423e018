"""What a lower precision than single changes, measured on the pictures that training kept apart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from app.card import Quantised
from app.checkpoint import judging, probabilities
from app.halved import HALF_SUFFIX, in_half
from app.loading import probes
from app.offline.files import replacing
from training.checksums import list_digest
from training.evaluate import BATCH, EvaluationError, changes_of, check_labels
from training.pictures import RatedPictures, batches

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from app.captured import Judging
    from app.checkpoint import Checkpoint, Computing
    from training.affective_set import AffectiveSet
    from training.metrics import Floats
    from training.partition import Partition


def halve(checkpoint: Checkpoint, path: Path, rated: AffectiveSet, partition: Partition) -> Quantised:
    """Write what half precision changes beside the checkpoint at `path`, and list its digest.

    A processor computes half precision as well, only slowly.

    Args:
        checkpoint: by TorchScript alone, on the device that is to compute.
        path: of the checkpoint.
        rated: the pictures that it learned from.
        partition: of them; the held-out ones tell what changes.

    Raises:
        EvaluationError: the pictures are rated for other emotions, or there are no held-out ones.
    """
    check_tested(checkpoint, rated, partition)
    halved = _Plainly(in_half(judging(checkpoint), checkpoint.device), checkpoint.device)
    told = measured(checkpoint, halved, rated, partition)
    beside = path.with_suffix(HALF_SUFFIX)
    with replacing(beside) as unfinished:
        unfinished.write_text(told.model_dump_json(indent=1) + "\n", "utf-8")
    list_digest(beside)
    return told


def check_tested(checkpoint: Checkpoint, rated: AffectiveSet, partition: Partition) -> None:
    """Make sure that these pictures can tell what changes.

    Raises:
        EvaluationError: they are rated for other emotions, or there are no held-out ones.
    """
    check_labels(checkpoint.card.labels, rated)
    if not len(partition.held_out):
        raise EvaluationError("training kept no picture apart, so nobody could say what changes")


def measured(
    checkpoint: Checkpoint, lower: Computing, rated: AffectiveSet, partition: Partition
) -> Quantised:
    """What changes when a lower precision predicts, with intervals of the difference.

    Validation pictures will do: they have chosen an epoch or a temperature, but both precisions have these.
    """
    both = (checkpoint, replace(checkpoint, compiled=lower))
    apart = partition.held_out
    before, after = (_probabilities(each, rated, apart) for each in both)
    return Quantised(
        sha256=checkpoint.sha256,
        pictures=len(apart),
        changes=changes_of(before, after, rated, apart, seed=checkpoint.card.split.seed),
        answers=probabilities(both[1], probes(checkpoint.card.input_size)).tolist(),
    )


def as_seen(
    checkpoint: Checkpoint, rated: AffectiveSet, indices: NDArray[np.int64]
) -> Iterator[NDArray[np.uint8]]:
    """Batches of pictures ``uint8 [N, 3, S, S]`` as the service sees them."""
    pictures = RatedPictures(rated, indices, side=checkpoint.card.input_size)
    for inputs, _ in batches(pictures, batch=BATCH):
        yield inputs.numpy()


@dataclass(frozen=True)
class _Plainly:
    """A judgement on a device, asked for every time."""

    judging: Judging
    device: torch.device
    name: str = "TorchScript"

    def __call__(self, pictures: NDArray[np.uint8]) -> tuple[torch.Tensor, ...]:
        shown = torch.from_numpy(pictures).to(self.device, memory_format=torch.channels_last)
        return self.judging(shown)


def _probabilities(checkpoint: Checkpoint, rated: AffectiveSet, indices: NDArray[np.int64]) -> Floats:
    """``[N, K]``, as the service predicts them."""
    return np.concatenate([probabilities(checkpoint, each) for each in as_seen(checkpoint, rated, indices)])
