"""The two phases of training, as the seed study had them: the last layer alone, then all layers.

A run can be cut at any time. Every random choice is drawn from the seed and the epoch's number, and the
state of the last whole epoch is on disk, so a resumed run ends with the same bytes as one that was not cut.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.checkpoint import SMALLEST_SIDE, DataSource
from training import pretrained
from training.augment import DEFAULT as DEFAULT_AUGMENTATIONS
from training.augment import compose
from training.head import channels_last, extract, fit_head, soft_cross_entropy
from training.inception import LAST_BLOCK, EmotionInception, build, layer_groups
from training.pictures import RatedPictures, batches, seeds
from training.run import Run, restore, save

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from torch.utils.data import DataLoader

    from training.affective_set import AffectiveSet, Partition
    from training.pictures import Sample

Precision = Literal["float32", "bfloat16"]

WARM_UP = 0.1
"""Share of phase two's steps over which the rate rises from zero."""


class FitError(Exception):
    """Training cannot go on; the message says why."""


@dataclass(frozen=True)
class FitSettings:
    """Everything that a run depends on besides its pictures.

    Attributes:
        target: learn the raters' whole distribution, or only their most frequent choice.
        weights: ``torchvision``, or a ``.safetensors`` file of start weights or of an earlier run.
        reads: Mixed blocks that the last layer reads.
        side: of the square input, in pixels.
        head_pictures: at most so many pictures for phase one; 0 for all.
        epochs: of phase two; 0 leaves the head alone.
        rate: of the last layer in phase two, at its highest.
        layer_decay: each block's rate is that of the block after it, times this.
        batch: pictures in a step.
        weight_decay: of AdamW.
        dropout: share of the pooled features dropped in phase two.
        augment: names from `training.augment`.
        precision: of the convolutions while training. ``bfloat16`` takes a third of the time on processors
            that have units for it (AMX, recent GPUs); weights and optimiser stay in single precision.
        seed: of everything random.
    """

    target: Literal["distribution", "class"] = "distribution"
    weights: str = pretrained.TORCHVISION
    reads: tuple[str, ...] = LAST_BLOCK
    side: int = 299
    head_pictures: int = 0
    epochs: int = 8
    rate: float = 1e-4
    layer_decay: float = 0.9
    batch: int = 16
    weight_decay: float = 0.05
    dropout: float = 0.5
    augment: tuple[str, ...] = DEFAULT_AUGMENTATIONS
    precision: Precision = "float32"
    seed: int = 1

    def __post_init__(self) -> None:
        if self.side < SMALLEST_SIDE:
            raise FitError(
                f"a side of {self.side} is below {SMALLEST_SIDE}, the least that Inception-V3 takes"
            )


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

    Raises:
        AugmentationError: an augmentation is refused or unknown.
        FitError: phase one learned nothing.
        InceptionError: the network cannot be built as the settings say.
        RunError: the folder holds another run.
        WeightsError: the start weights cannot be used.
    """
    start = pretrained.load(settings.weights)
    # Whatever can be refused is refused before anything is written or computed.
    compose(settings.augment, settings.side)
    torch.manual_seed(settings.seed)
    network = build(len(rated.labels), start, reads=settings.reads, dropout=settings.dropout)
    record = {
        "settings": asdict(settings),
        "labels": rated.labels,
        "start_weights": start.provenance,
        "earlier_commands": start.commands,
        "data": [source.model_dump() for source in (*start.learned_from, describe(rated, partition))],
        "mean": start.mean,
        "std": start.std,
        "count_border": start.count_border,
        **(notes or {}),
    }
    folder.begin(record, resume=resume)
    network.to(device)
    network.to(memory_format=torch.channels_last)
    job = _Job(with_target(rated, settings.target), partition, settings, folder, network, device, workers)
    if not folder.last.exists():
        _phase_one(job)
    _phase_two(job)
    restore(folder.best, network, None)
    network.eval()
    return network


def describe(rated: AffectiveSet, partition: Partition) -> DataSource:
    """The pictures that a run learns from, for the card."""
    return DataSource(
        name=rated.name, pictures=len(partition.train), terms=rated.terms, citation=rated.citation
    )


def with_target(rated: AffectiveSet, target: Literal["distribution", "class"]) -> AffectiveSet:
    """The set itself, or with each picture's agreement all on its dominant emotion."""
    if target == "distribution":
        return rated
    return replace(rated, agreement=np.eye(len(rated.labels))[rated.dominant])


@dataclass(frozen=True)
class _Job:
    """What both phases work on."""

    rated: AffectiveSet
    partition: Partition
    settings: FitSettings
    run: Run
    network: EmotionInception
    device: torch.device
    workers: int

    def autocast(self) -> torch.autocast:
        """The precision of the settings for what runs inside."""
        reduced = self.settings.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=reduced)

    def plain(self, indices: NDArray[np.int64]) -> DataLoader[Sample]:
        """Pictures as the service sees them, in order."""
        pictures = RatedPictures(self.rated, indices, side=self.settings.side)
        return batches(pictures, batch=self.settings.batch, workers=self.workers)


def _phase_one(job: _Job) -> None:
    began = time.monotonic()
    chosen = job.partition.train
    if job.settings.head_pictures:
        order = np.random.default_rng(job.settings.seed).permutation(len(chosen))
        chosen = chosen[order[: job.settings.head_pictures]]
    training, validation = (
        extract(job.network, _shown(job.plain(indices), f"last layer, features of {part}"), job.device)
        for part, indices in (("train", chosen), ("validation", job.partition.validation))
    )
    job.network.cpu()
    found = fit_head(job.network, training, validation)
    job.network.to(job.device)
    chance = math.log(len(job.rated.labels))
    if found.validation_loss >= chance:
        raise FitError(
            f"the last layer alone reaches {found.validation_loss:.3f} nats on the validation pictures; "
            f"chance is {chance:.3f}: it learned nothing. Check that labels and pictures belong together"
        )
    _report(job.run, "head", 0, (found.train_loss, found.validation_loss), began)
    meta = _meta(job.run, 0, found.validation_loss)
    save(job.run.best, job.network, None, meta)
    save(job.run.last, job.network, None, meta)


def _phase_two(job: _Job) -> None:
    settings = job.settings
    optimiser = _optimiser(job.network, settings)
    peaks = [group["lr"] for group in optimiser.param_groups]
    meta = restore(job.run.last, job.network, optimiser)
    best = float(meta["best"])
    for epoch in range(int(meta["epoch"]) + 1, settings.epochs + 1):
        began = time.monotonic()
        train_loss = _epoch(job, optimiser, peaks, epoch)
        validation_loss = _validate(job)
        _report(job.run, "all", epoch, (train_loss, validation_loss), began)
        improved, best = validation_loss < best, min(validation_loss, best)
        if improved:
            save(job.run.best, job.network, None, _meta(job.run, epoch, best))
        save(job.run.last, job.network, optimiser, _meta(job.run, epoch, best))


def _epoch(job: _Job, optimiser: torch.optim.Optimizer, peaks: list[float], epoch: int) -> float:
    """One pass over the training pictures; the mean loss of its steps, in nats."""
    settings = job.settings
    pictures = RatedPictures(
        job.rated, job.partition.train, side=settings.side, augment=settings.augment, seed=settings.seed
    )
    pictures.epoch = epoch
    shuffle, dropout = seeds(settings.seed, epoch, count=2)
    torch.manual_seed(dropout)
    loader = batches(pictures, batch=settings.batch, workers=job.workers, shuffle_seed=shuffle)
    job.network.train()
    losses = []
    for step, (inputs, target) in enumerate(_shown(loader, f"all layers, epoch {epoch}/{settings.epochs}")):
        done = (epoch - 1 + step / len(loader)) / settings.epochs
        for group, peak in zip(optimiser.param_groups, peaks, strict=True):
            group["lr"] = peak * schedule(done)
        optimiser.zero_grad()
        with job.autocast():
            logits = job.network(channels_last(inputs, job.device))
        loss = soft_cross_entropy(logits.float(), target.to(job.device))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    return float(np.mean(losses))


def schedule(done: float) -> float:
    """The rate's factor after a share `done` of all steps: a linear rise, then a cosine to zero."""
    if done < WARM_UP:
        return done / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


def _optimiser(network: EmotionInception, settings: FitSettings) -> torch.optim.AdamW:
    groups = [
        {"params": parameters, "lr": settings.rate * settings.layer_decay**depth}
        for depth, (_, parameters) in enumerate(layer_groups(network))
    ]
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay)


@torch.no_grad()
def _validate(job: _Job) -> float:
    job.network.eval()
    total = 0.0
    for inputs, target in _shown(job.plain(job.partition.validation), "validation"):
        with job.autocast():
            logits = job.network(channels_last(inputs, job.device))
        total += soft_cross_entropy(logits.float(), target.to(job.device)).item() * len(target)
    return total / len(job.partition.validation)


def _shown(loader: DataLoader[Sample], what: str) -> Iterable[Sample]:
    """The loader's batches, with a bar and the time left on the terminal's error stream."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(loader, description=what)


def _report(run: Run, phase: str, epoch: int, losses: tuple[float, float], began: float) -> None:
    row = {
        "phase": phase,
        "epoch": epoch,
        "train_loss": round(losses[0], 5),
        "validation_loss": round(losses[1], 5),
        "seconds": round(time.monotonic() - began, 1),
    }
    run.log(row)
    Console(stderr=True).print("  ".join(f"{key} {value}" for key, value in row.items()), highlight=False)


def _meta(run: Run, epoch: int, best: float) -> dict[str, str]:
    """Progress, and what `training.pretrained.load` needs to start another run from this one."""
    record = run.record()
    return {
        "epoch": str(epoch),
        "best": repr(best),
        "mean": str(record["mean"]),
        "std": str(record["std"]),
        "count_border": json.dumps(record["count_border"]),
        "provenance": str(record["start_weights"]),
        "learned_from": json.dumps(record["data"]),
        "commands": "\n".join([*record["earlier_commands"], record.get("command", "")]),
    }
