"""The two phases of training, as the seed study had them: the last layer alone, then all layers.

A run can be cut at any time. Every random choice is drawn from the seed and the epoch's number, and the
state of the last whole epoch is on disk, so on a CPU a resumed run ends with the same weights as one that was
not cut. A GPU does not add in the same order every time.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from training import distributed, pretrained
from training.augment import compose
from training.evaluate import identity, ratings
from training.fit_settings import FitError, FitSettings
from training.inception import EmotionInception, build, freeze
from training.learned import NOTHING, check_unseen, describe, digests_of, to_text
from training.phases import Job, phase_one, phase_two, terminal
from training.pseudo_rate import column_names
from training.run import Run, restore
from training.teacher import Imitation
from training.teacher import load as load_teacher

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from torch import Tensor

    from app.card import DataSource
    from training.affective_set import AffectiveSet
    from training.learned import Digests
    from training.partition import Partition
    from training.pretrained import StartWeights
    from training.teacher import Teacher

_log = logging.getLogger(__name__)

__all__ = ["FitError", "FitSettings", "fit", "with_target"]


def digests(settings: FitSettings) -> dict[str, str]:
    """Of the files that a run starts from, which may have been made anew under their old names."""
    return {path: pretrained.digest(path) for path in (settings.weights, settings.teacher) if path}


def fit(
    rated: AffectiveSet,
    partition: Partition,
    settings: FitSettings,
    folder: Run,
    *,
    device: torch.device,
    workers: int = 0,
    resume: bool = False,
    notes: dict[str, object] | None = None,
    seen_test: bool = False,
) -> EmotionInception:
    """Train in both phases and return the network of the best epoch.

    Args:
        rated: the pictures; its agreement levels are the targets.
        partition: which of them train and which validate. The test pictures are not touched.
        settings: of the run.
        folder: where the run is kept.
        device: that the network trains on.
        workers: processes that decode; 0 decodes in this one.
        resume: go on where the run in `folder` stands.
        notes: kept in ``run.json`` beside the settings.
        seen_test: go on though the start weights or the teacher have learned from test pictures.

    Raises:
        AugmentationError: an augmentation is refused or unknown.
        DataError: test pictures have been learned from before.
        FitError: phase one learned nothing, or the processes that train together do not agree.
        InceptionError: the network cannot be built as the settings say.
        RunError: the folder holds another run.
        WeightsError: the start weights or the teacher cannot be used.
    """
    start = pretrained.load(settings.weights)
    teacher = load_teacher(settings.teacher).to(device) if settings.teacher else None
    # Whatever can be refused is refused before anything is written or computed.
    _check_opinion(settings, teacher, rated)
    network = _ready(rated, settings, start)
    _check_alike(settings, rated, partition)
    seen, own = distributed.by_first(
        lambda: (
            _check_unseen(rated, partition, start, teacher, seen_test=seen_test),
            digests_of(rated, partition.train),
        )
    )
    record = _record(rated, partition, settings, start, teacher)
    folder.begin({**record, "seen": seen, **(notes or {})}, resume=resume)
    network.to(device)
    network.to(memory_format=torch.channels_last)
    imitation = None if teacher is None else Imitation(teacher).to(device)
    targets = with_target(rated, settings.target)
    earlier = last_layer(start, rated, network.reads)
    if earlier and not len(partition.validation) and start.pictures & own:
        # Some training pictures are lent to choose how much of it is kept, and it knows their answers.
        terminal().print("the last layer starts anew: that of the start weights knows these pictures")
        earlier = None
    learned = to_text(_known(start, teacher) | own)
    job = Job(
        targets, partition, settings, folder, network, device, workers, earlier, teacher, imitation, learned
    )
    if not distributed.by_first(folder.last.exists):
        phase_one(job)
    phase_two(job)
    restore(folder.best, network, None)
    network.eval()
    return network


def check_start(
    rated: AffectiveSet,
    partition: Partition,
    settings: FitSettings,
    *,
    seen_test: bool,
    other_labels: bool = False,
) -> dict[str, int]:
    """Refuse what `fit` would refuse of these settings, and tell what `training.learned.check_unseen` does.

    With `other_labels` some runs will be of other emotions, and each sees itself what its teacher knows.

    Raises:
        AugmentationError, DataError, FitError, InceptionError, WeightsError: see `fit`.
    """
    start = pretrained.load(settings.weights)
    teacher = load_teacher(settings.teacher) if settings.teacher else None
    if not other_labels:
        _check_opinion(settings, teacher, rated)
    _ready(rated, settings, start)
    return _check_unseen(rated, partition, start, teacher, seen_test=seen_test)


def _ready(rated: AffectiveSet, settings: FitSettings, start: StartWeights) -> EmotionInception:
    """The network that a run begins with, once nothing in its settings is to be refused."""
    compose(settings.augment, settings.side)
    torch.manual_seed(settings.seed)
    network = build(len(rated.labels), start, reads=settings.reads, dropout=settings.dropout)
    if settings.frozen:
        freeze(network, settings.frozen)
    return network


def _check_unseen(
    rated: AffectiveSet,
    partition: Partition,
    start: StartWeights,
    teacher: Teacher | None,
    *,
    seen_test: bool,
) -> dict[str, int]:
    known = _known(start, teacher)
    if not known and rated.name in {source.name for source in _shown(start, teacher)}:
        _log.warning(
            "%s: the start weights or the teacher have learned from this set and do not say from which "
            "pictures: the division must be the one of then, or scores are not those of new pictures",
            rated.name,
        )
    return check_unseen(rated, partition, known, allowed=seen_test)


def _shown(start: StartWeights, teacher: Teacher | None) -> tuple[DataSource, ...]:
    """The sets that a run's start weights and teacher have learned from, each once."""
    return tuple(dict.fromkeys((*start.learned_from, *(() if teacher is None else teacher.data))))


def _known(start: StartWeights, teacher: Teacher | None) -> Digests:
    return start.pictures | (NOTHING if teacher is None else teacher.pictures)


def _record(
    rated: AffectiveSet,
    partition: Partition,
    settings: FitSettings,
    start: StartWeights,
    teacher: Teacher | None,
) -> dict[str, Any]:
    """What a run is, for ``run.json``."""
    own = describe(rated, partition)
    return {
        "settings": asdict(settings),
        "labels": rated.labels,
        "digests": digests(settings),
        "start_weights": start.provenance
        if teacher is None
        else _taught(start.provenance, teacher.provenance),
        "earlier_commands": (*start.commands, *(() if teacher is None else teacher.commands)),
        "data": [
            source.model_dump() for source in (*(each for each in _shown(start, teacher) if each != own), own)
        ],
        "mean": start.mean,
        "std": start.std,
        "count_border": start.count_border,
        "pictures": {
            "train": identity(rated.subset(partition.train)),
            "validation": identity(rated.subset(partition.validation)) if len(partition.validation) else None,
        },
        "ratings": ratings(rated),
    }


def last_layer(
    start: StartWeights, rated: AffectiveSet, reads: Sequence[str]
) -> tuple[Tensor, Tensor] | None:
    """What the last layer may build on; if the start weights have one that cannot be used, that is told."""
    found = start.head_for(rated.labels, column_names(rated.name, rated.labels), reads)
    if found is None and start.head:
        why = (
            f"knows {', '.join(start.head)}"
            if {*reads} == {*start.reads}
            else f"reads {', '.join(start.reads)}"
        )
        terminal().print(f"the last layer starts anew: that of the start weights {why}", highlight=False)
    return found


def _check_opinion(settings: FitSettings, teacher: Teacher | None, rated: AffectiveSet) -> None:
    """That the teacher has an opinion of these emotions, if it is asked for one.

    Raises:
        FitError: it has none, or of others.
    """
    if not settings.teacher_share:
        return
    known = () if teacher is None else teacher.labels
    if known != rated.labels:
        raise FitError(
            f"--teacher-share needs a teacher that `tune` has taught {', '.join(rated.labels)}; "
            + (f"this one knows {', '.join(known)}" if known else "this one knows no emotions")
        )


def _check_alike(settings: FitSettings, rated: AffectiveSet, partition: Partition) -> None:
    """That every process is about to train the same network on the same pictures.

    Raises:
        FitError: one is not, or there are too many of them.
    """
    if len(set(distributed.everyone(_what_is_learned(settings, rated, partition)))) > 1:
        raise FitError("the processes have other settings or pictures than one another")
    if settings.batch < 2 * distributed.world() and distributed.world() > 1:
        raise FitError(
            f"a batch of {settings.batch} pictures is too small for {distributed.world()} processes, "
            "which take at least two each"
        )


def _what_is_learned(settings: FitSettings, rated: AffectiveSet, partition: Partition) -> str:
    """A digest of all that a run depends on but the pixels of its pictures."""
    files = sorted(digests(settings).items())
    told = "\0".join([repr(settings), repr(files), *rated.labels, identity(rated)])
    indices = (partition.train.tobytes(), partition.validation.tobytes())
    return hashlib.sha256(b"\0".join([told.encode(), *indices])).hexdigest()


def _taught(provenance: str, teacher: str) -> str:
    """What the card says of the first weights; a chain of runs names its teacher once."""
    sentence = f"; taught by {teacher}"
    return provenance if provenance.endswith(sentence) else provenance + sentence


def with_target(rated: AffectiveSet, target: Literal["distribution", "class"]) -> AffectiveSet:
    """The set itself, or with each picture's agreement all on its dominant emotion."""
    if target == "distribution":
        return rated
    return replace(rated, agreement=np.eye(len(rated.labels))[rated.dominant])
