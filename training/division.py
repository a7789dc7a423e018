"""How the pictures of a run were divided: written down for its card, made again, and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from app.card import Split
from training.evaluate import EvaluationError, fingerprint, fingerprints
from training.partition import TEST_SHARE, VALIDATION_SHARE, split

if TYPE_CHECKING:
    from training.affective_set import AffectiveSet
    from training.partition import Partition


def describe_split(
    rated: AffectiveSet,
    partition: Partition | None,
    *,
    seed: int,
    min_agreement: float | None,
    top_classes: int | None,
    test_share: float = TEST_SHARE,
    validation_share: float = VALIDATION_SHARE,
    with_test: bool = False,
) -> Split:
    """What the card must know to divide the same pictures in the same way; None where all are trained on."""
    everything = np.arange(len(rated))
    train, validation, test = (
        (everything, everything[:0], everything[:0])
        if partition is None
        else (partition.train, partition.validation, partition.test)
    )
    return Split(
        train=len(train),
        validation=len(validation),
        test=len(test),
        seed=seed,
        min_agreement=min_agreement,
        top_classes=top_classes,
        test_fingerprint=fingerprint(rated, test),
        test_share=test_share,
        validation_share=validation_share,
        fingerprint=fingerprint(rated, everything),
        with_test=with_test,
        validation_fingerprint=fingerprint(rated, validation),
    )


def split_as(recorded: Split, rated: AffectiveSet) -> Partition:
    """The parts that were written down, of the filtered pictures; `check_split` tells whether they are those.

    Raises:
        DataError: the pictures cannot be divided so.
    """
    return split(
        rated,
        seed=recorded.seed,
        test_share=recorded.test_share,
        validation_share=recorded.validation_share,
        with_test=recorded.with_test,
    )


def check_split(recorded: Split, rated: AffectiveSet, partition: Partition) -> None:
    """Make sure that no picture that was trained on is scored.

    Raises:
        EvaluationError: these pictures do not divide into the parts that were recorded.
    """
    if recorded.test_fingerprint not in fingerprints(rated, partition.test):
        raise EvaluationError(
            f"the test pictures found here ({len(partition.test)}) are not those that training kept apart "
            f"({recorded.test}): scoring them would count pictures that were learned"
        )
    recorded_apart = recorded.validation_fingerprint
    if recorded_apart is not None and recorded_apart not in fingerprints(rated, partition.validation):
        raise EvaluationError(
            f"the validation pictures found here ({len(partition.validation)}) are not those that training "
            f"kept apart ({recorded.validation}): some that were learned would be taken for new"
        )
    everything = np.arange(len(rated))
    if recorded.fingerprint is not None and recorded.fingerprint not in fingerprints(rated, everything):
        raise EvaluationError(f"these {len(rated)} pictures are not all those that were divided for training")
