"""Scores for a checkpoint that has learned from the pictures for the test, too: those of one that has not."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from app.card import StandIn
from app.loading import load
from training.division import check_split, split_as
from training.evaluate import EvaluationError, changes_of, check_labels, outputs_of, probabilities
from training.learned import digests_of, in_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from app.card import Split
    from app.checkpoint import Checkpoint
    from training.affective_set import AffectiveSet
    from training.metrics import Floats
    from training.partition import Partition

_log = logging.getLogger(__name__)
_SAME = {"seed", "min_agreement", "top_classes", "test_share", "validation_share"}
"""What divides the same pictures into the same parts."""


def standing_in(path: Path, own: Split, rated: AffectiveSet) -> Checkpoint:
    """The checkpoint that stands in, if its scores are those of pictures that it has not learned from.

    Args:
        path: of it.
        own: how the pictures were divided for the checkpoint that has no scores of its own.
        rated: these pictures.

    Raises:
        CheckpointError: there is no such checkpoint.
        EvaluationError: it was made of other emotions, pictures or parts, has learned from test pictures, or
            has no scores of its own either.
    """
    if not own.with_test:
        raise EvaluationError("this run has test pictures of its own: no other checkpoint stands in for it")
    other = load(path, torch.device("cpu"))
    check_labels(other.card.labels, rated)
    its = other.card.split
    if its.model_dump(include=_SAME) != own.model_dump(include=_SAME) or not its.test:
        raise EvaluationError(f"{path} was not scored on the pictures that were for the test here")
    apart = split_as(its, rated)
    if not len(apart.validation):
        raise EvaluationError("the two are compared on validation pictures, of which training kept none")
    check_split(its, rated, apart)
    if other.card.cross_validation is not None or other.card.stand_in is not None:
        raise EvaluationError(f"the scores on the card of {path} are not its own")
    learned = in_checkpoint(path)
    if known := learned & digests_of(rated, [*apart.test, *apart.validation]):
        raise EvaluationError(
            f"{path} has itself learned from {len(known)} of the pictures for the test or the validation"
        )
    if not learned:
        _log.warning("%s does not say from which pictures it has learned: its card's word is taken", path)
    return other


def compared(other: Checkpoint, predicted: Floats, rated: AffectiveSet, partition: Partition) -> StandIn:
    """What the card says of the checkpoint that stands in, and how the two differ.

    Args:
        other: it.
        predicted: by the checkpoint that it stands in for, ``[N, K]`` of the validation pictures.
        rated: the pictures.
        partition: of them.
    """
    held_out = partition.validation
    before = probabilities(outputs_of(other, rated, held_out).logits, other.card.temperature)
    return StandIn(
        release=other.card.release,
        sha256=other.sha256,
        train=other.card.split.train,
        test=other.card.split.test,
        changes=changes_of(before, predicted, rated, held_out, seed=other.card.split.seed),
    )
