"""A checkpoint's predictions on rated pictures, made by the lines that serve it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from training.head import channels_last
from training.metrics import common_labels, measure_changes
from training.pictures import RatedPictures, batches

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from app.card import Score
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


def changes_of(
    before: Floats, after: Floats, rated: AffectiveSet, indices: NDArray[np.int64], *, seed: int
) -> dict[str, Score]:
    """`training.metrics.measure_changes` between two predictions ``[N, K]`` of some pictures of a set."""
    return measure_changes(
        before,
        after,
        rated.agreement[indices],
        seed=seed,
        common=common_labels(rated.agreement),
        groups=rated.groups[indices],
    )


def names_of(rated: AffectiveSet) -> list[str]:
    """What pictures are called in records: their way from the folder that holds them all.

    So they keep their names when that folder is moved or renamed, or the table is called by another path.
    """
    paths = [os.path.normpath(path.absolute()) for path in rated.pictures]
    try:
        root = os.path.commonpath([Path(path).parent for path in paths])
    except ValueError:  # they lie on two drives of a Windows machine
        return earlier_names_of(rated)
    return [Path(path).relative_to(root).as_posix() for path in paths]


def earlier_names_of(rated: AffectiveSet) -> list[str]:
    """What older records call them."""
    return [f"{path.parent.name}/{path.name}" for path in rated.pictures]


def identity(rated: AffectiveSet) -> str:
    """A digest of all that decides how pictures are divided and what is learned of them, in their order."""
    parts = (_encoded("\n".join(names_of(rated))), rated.agreement.tobytes(), rated.groups.tobytes())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def ratings(rated: AffectiveSet) -> str:
    """A digest of what the raters said of which picture, in any order.

    Agreement levels are rounded, since their last bits depend on the processor.
    """
    rows = zip(names_of(rated), rated.agreement, strict=True)
    return _digest(f"{name} {' '.join(f'{level:.6f}' for level in levels)}" for name, levels in rows)


def fingerprint(rated: AffectiveSet, indices: NDArray[np.int64]) -> str:
    """A digest of which pictures these are, by name; it tells whether two splits are the same."""
    return fingerprints(rated, indices)[0]


def fingerprints(rated: AffectiveSet, indices: NDArray[np.int64]) -> tuple[str, str]:
    """`fingerprint`, and what older records have in its place."""
    now, earlier = (
        _digest(names[index] for index in indices) for names in (names_of(rated), earlier_names_of(rated))
    )
    return now, earlier


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256(_encoded("\n".join(sorted(lines)))).hexdigest()[:16]


def _encoded(names: str) -> bytes:
    """Names of files as Linux has them: of an old archive, they may be no UTF-8."""
    return names.encode("utf-8", "surrogateescape")
