"""What weights have learned from: the sets, for the card, and the pictures, so that none is scored as if new.

A file of weights that a run or a fine-tuning has written holds a digest of every picture that it, or what it
started from, has learned from. It is one of the content: tables and folders call a picture by many names.
Other people's files have none, nor have old ones of ours: nobody can tell what they have seen.
"""

from __future__ import annotations

import base64
import logging
import zipfile
from typing import TYPE_CHECKING

from app.card import DataSource
from app.checkpoint import sha256_of
from training.affective_set import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from training.affective_set import AffectiveSet
    from training.partition import Partition

Digests = frozenset[bytes]

LEARNED = "learned_pictures"
"""What the digests are called among a file's metadata, and among the extra files of a checkpoint."""
NOTHING: Digests = frozenset()
_SIZE = 8
"""Bytes of a SHA-256. That two of 25,000 pictures share them has a probability of 2 in 10^11."""

_log = logging.getLogger(__name__)


def digest(picture: Path) -> bytes:
    """Of a file's content."""
    return bytes.fromhex(sha256_of(picture))[:_SIZE]


def digests_of(rated: AffectiveSet, indices: Iterable[int]) -> Digests:
    """Of some pictures of a set."""
    return frozenset(digest(rated.pictures[index]) for index in indices)


def to_text(pictures: Digests) -> str:
    """Digests as a file of weights keeps them; the same ones are the same text."""
    return base64.b64encode(b"".join(sorted(pictures))).decode()


def from_text(text: str) -> Digests:
    """What `to_text` has written; nothing of an empty text."""
    joined = base64.b64decode(text)
    return frozenset(joined[start : start + _SIZE] for start in range(0, len(joined), _SIZE))


def in_checkpoint(path: Path) -> Digests:
    """What the extra files of a checkpoint, which is a zip archive, say."""
    with zipfile.ZipFile(path) as archive:
        found = [name for name in archive.namelist() if name.endswith(f"/extra/{LEARNED}")]
        return from_text(archive.read(found[0]).decode()) if found else NOTHING


def describe(rated: AffectiveSet, partition: Partition) -> DataSource:
    """The pictures that are learned from, for the card."""
    return DataSource(
        name=rated.name, pictures=len(partition.train), terms=rated.terms, citation=rated.citation
    )


def check_unseen(
    rated: AffectiveSet, partition: Partition, known: Digests, *, allowed: bool
) -> dict[str, int]:
    """How many pictures of ``validation`` and ``test`` are among those that were learned from before.

    Args:
        rated: the pictures.
        partition: of them.
        known: what the start weights and the teachers have learned from.
        allowed: whether pictures of the test may be among them.

    Raises:
        DataError: some are, and may not be.
    """
    parts = {"validation": partition.validation, "test": partition.test} if known else {}
    again = {
        part: [path for path in (rated.pictures[index] for index in indices) if digest(path) in known]
        for part, indices in parts.items()
    }
    seen = {"validation": 0, "test": 0} | {part: len(paths) for part, paths in again.items()}
    if seen["test"] and not allowed:
        raise DataError(
            f"{seen['test']} of the {len(partition.test)} pictures of {rated.name} that are to be scored "
            "have been learned from before, by the start weights or a teacher; they would be scored as if "
            "they were new. Start from others, or divide the pictures as they were divided then. With "
            "--seen-test it goes on; the card of a run says so",
            [str(path) for path in again["test"]],
        )
    if said := note_of(seen):
        _log.warning("%s: %s", rated.name, said)
    return seen


def tell_known(rated: AffectiveSet, checkpoint: Path) -> None:
    """Warn of pictures that are said to be new to a checkpoint, where it knows some, or does not say."""
    if not (known := in_checkpoint(checkpoint)):
        _log.warning(
            "%s does not say from which pictures it has learned: nobody can tell whether these are new to it",
            checkpoint,
        )
    elif count := sum(digest(path) in known for path in rated.pictures):
        _log.warning(
            "%s: %d of the %d pictures that are scored are among those that %s has learned from: the scores "
            "are not those of new pictures",
            rated.name, count, len(rated), checkpoint,
        )  # fmt: skip


def note_of(seen: Mapping[str, int]) -> str:
    """What a reader of the scores should know of what `check_unseen` has counted."""
    sentences = []
    if count := seen.get("test", 0):
        sentences.append(
            f"{count} of the pictures that are scored had been learned from before, by the start weights or "
            "a teacher: the scores are not those of new pictures."
        )
    if count := seen.get("validation", 0):
        sentences.append(
            f"{count} of the validation pictures, which choose the epoch and the temperature, had been "
            "learned from before, by the start weights or a teacher."
        )
    return " ".join(sentences)
