from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from app.picture import decode
from tests.tiny import LABELS
from tests.training.colours import colour_set
from training.evaluate import (
    BATCH,
    EvaluationError,
    fingerprint,
    fingerprints,
    identity,
    logits_of,
    names_of,
    probabilities,
    ratings,
)

if TYPE_CHECKING:
    from app.checkpoint import Checkpoint
    from training.affective_set import AffectiveSet


@pytest.fixture(scope="module")
def rated(colour_folder: Path) -> AffectiveSet:
    """The pictures of three colours, rated for what the tiny checkpoint feels about each."""
    colours = colour_set(colour_folder)
    order = [colours.labels.index(colour) for colour in ("red", "green", "blue")]
    return replace(colours, labels=LABELS, agreement=colours.agreement[:, order])


def test_a_checkpoint_is_scored_on_what_the_service_would_show_it(
    checkpoint: Checkpoint, rated: AffectiveSet
) -> None:
    indices = np.array([29, 0, 14])
    logits = logits_of(checkpoint, rated, indices)
    assert logits.shape == (3, 3)
    assert logits.dtype == np.float64
    for row, index in zip(logits, indices, strict=True):
        picture = decode(rated.pictures[index].read_bytes()).as_input(checkpoint.card.input_size)
        alone = checkpoint.network(torch.from_numpy(picture)[None])
        assert row == pytest.approx(alone[0].tolist(), abs=1e-5)


def test_every_batch_counts(checkpoint: Checkpoint, rated: AffectiveSet) -> None:
    assert len(rated) > BATCH
    logits = logits_of(checkpoint, rated, np.arange(len(rated)))
    assert (logits.argmax(axis=1) == rated.dominant).all()


def test_pictures_rated_for_other_emotions_are_refused(checkpoint: Checkpoint, rated: AffectiveSet) -> None:
    for labels in (("anger", "sadness", "joy"), ("anger", "joy", "fear")):
        with pytest.raises(EvaluationError, match=f"knows anger, joy, sadness; .* for {', '.join(labels)}"):
            logits_of(checkpoint, replace(rated, labels=labels), np.arange(2))


def test_probabilities_are_cooled_logits() -> None:
    logits = np.array([[0.0, np.log(4.0)]])
    assert probabilities(logits, 1.0).tolist() == [pytest.approx([0.2, 0.8])]
    assert probabilities(logits, 2.0).tolist() == [pytest.approx([1 / 3, 2 / 3])]


def test_a_fingerprint_tells_sets_of_pictures_apart(rated: AffectiveSet) -> None:
    known = fingerprint(rated, np.array([3, 1, 2]))
    assert known == fingerprint(rated, np.array([1, 2, 3])), "their order does not matter"
    assert known != fingerprint(rated, np.array([1, 2, 4]))
    assert known != fingerprint(rated, np.array([1, 2]))
    assert known != fingerprint(rated, np.array([11, 12, 13])), "files of the same name in other folders"
    elsewhere = tuple(Path("elsewhere", path.parent.name, path.name) for path in rated.pictures)
    assert known == fingerprint(replace(rated, pictures=elsewhere), np.array([1, 2, 3]))


def test_pictures_keep_their_names_when_their_folder_is_called_otherwise(rated: AffectiveSet) -> None:
    beside = rated.subset(np.arange(10))  # all in one folder, as those beside a table
    renamed = replace(beside, pictures=tuple(Path(path.name) for path in beside.pictures))
    ways = replace(beside, pictures=tuple(Path("tables", "..", path.name) for path in beside.pictures))
    everything = np.arange(10)
    for other in (renamed, ways):
        assert names_of(other) == names_of(beside) == [path.name for path in beside.pictures]
        assert fingerprint(other, everything) == fingerprint(beside, everything)
        assert identity(other) == identity(beside)
        assert ratings(other) == ratings(beside)
    now, earlier = fingerprints(beside, everything)
    assert earlier != now
    assert earlier != fingerprints(renamed, everything)[1], "as it was"


def test_ratings_are_told_apart_in_any_order(rated: AffectiveSet) -> None:
    known = ratings(rated)
    assert known == ratings(rated.subset(np.arange(len(rated))[::-1]))
    assert known == ratings(replace(rated, agreement=rated.agreement + 1e-12))
    changed = rated.agreement.copy()
    changed[4] = np.roll(changed[4], 1)
    assert known != ratings(replace(rated, agreement=changed))


def test_a_file_name_that_is_no_utf8_is_a_name(rated: AffectiveSet) -> None:
    """As Linux gives that of an old archive; it is told apart from others, and those are as they were."""
    strange = replace(rated, pictures=(Path("red/\udce4.png"), *rated.pictures[1:]))
    everything = np.arange(len(rated))
    for digest in (identity, ratings, lambda each: fingerprint(each, everything)):
        assert len(digest(strange)) == 16
        assert digest(strange) != digest(rated)
