"""The two phases: the new last layer alone, then all layers. `training.fit` says what a run is."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sklearn.model_selection import GroupShuffleSplit
from torch import nn

from training import distributed
from training.fit_settings import FitError, autocast
from training.head import channels_last, extract, fit_head, refit_head, soft_cross_entropy
from training.inception import BLOCKS, layer_groups
from training.learned import LEARNED
from training.lesson import Lesson, blended, kept_features
from training.pictures import RatedPictures, batches, seeds
from training.run import restore, save

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from torch import Tensor
    from torch.utils.data import DataLoader

    from training.affective_set import AffectiveSet
    from training.fit_settings import FitSettings
    from training.inception import EmotionInception
    from training.partition import Partition
    from training.pictures import Sample
    from training.run import Run
    from training.teacher import Imitation, Teacher

WARM_UP = 0.1
"""Share of phase two's steps over which the rate rises from zero."""
ENOUGH = 50
"""So many validation pictures tell a last layer that learned a little from one that learned nothing."""


@dataclass(frozen=True)
class Job:
    """What both phases work on.

    Attributes:
        rated: with the targets that are learned.
        partition: of its pictures.
        settings: of the run.
        run: its folder.
        network: that learns.
        earlier: weight and bias of a last layer that an earlier run has for these emotions, if any.
        teacher: that it imitates, if any.
        imitation: what is learned for that, and thrown away at the end.
        learned: digests of all pictures that the network will have learned from, see `training.learned`.
        device: of both.
        workers: processes that decode.
    """

    rated: AffectiveSet
    partition: Partition
    settings: FitSettings
    run: Run
    network: EmotionInception
    device: torch.device
    workers: int
    earlier: tuple[Tensor, Tensor] | None = None
    teacher: Teacher | None = None
    imitation: Imitation | None = None
    learned: str = ""

    @property
    def whole(self) -> nn.Module:
        """Everything that a resumed run must find as it was."""
        if self.imitation is None:
            return self.network
        return nn.ModuleDict({"network": self.network, "imitation": self.imitation})

    @cached_property
    def lesson(self) -> nn.Module:
        """What a step minimises, with the gradients of all processes."""
        unused = self.imitation is None and BLOCKS[-1] not in self.network.reads
        return distributed.averaged(Lesson(self), unused=unused)

    def autocast(self) -> torch.autocast:
        """The precision of the settings for what runs inside."""
        return autocast(self.settings.precision, self.device)

    def plain(self, indices: NDArray[np.int64]) -> DataLoader[Sample]:
        """Pictures as the service sees them, in order."""
        pictures = RatedPictures(self.rated, indices, side=self.settings.side)
        return batches(pictures, batch=self.settings.batch, workers=self.workers)


def phase_one(job: Job) -> None:
    """The last layer alone.

    Raises:
        FitError: it learned nothing.
    """
    began = time.monotonic()
    chosen = job.partition.train
    if job.settings.head_pictures:
        order = np.random.default_rng(job.settings.seed).permutation(len(chosen))
        chosen = chosen[order[: job.settings.head_pictures]]
    watched = job.partition.validation
    lent = not len(watched)
    if lent:  # every picture is trained on, but some of them have to choose the penalty first
        chosen, watched = _apart(job.rated, chosen, job.settings.seed)
    training, validation = (
        extract(job.network, _shown(job.plain(indices), f"last layer, features of {part}"), job.device)
        for part, indices in (("train", chosen), ("validation", watched))
    )
    job.network.cpu()
    found = fit_head(job.network, training, validation, job.earlier)
    if lent:
        features, targets = (torch.cat(both) for both in zip(training, validation, strict=True))
        refit_head(job.network, (features, targets), found, job.earlier)
    job.network.to(job.device)
    check_last_layer(found.validation_loss, training[1], validation[1], strict=not lent)
    _report(job.run, "head", 0, (found.train_loss, found.validation_loss), began)
    if job.earlier is not None:
        does = "builds" if found.built_on else "was tried and does not build"
        terminal().print(f"the last layer {does} on what that of the start weights knows", highlight=False)
    meta = _meta(job, 0, found.validation_loss)
    save(job.run.best, job.network, None, meta)
    save(job.run.last, job.whole, None, meta)


def check_last_layer(loss: float, learned: Tensor, watched: Tensor, *, strict: bool) -> None:
    """Make sure that a last layer says more of pictures than somebody who does not see them.

    Where one emotion is common, always answering the mean of the training pictures beats chance. On a few
    pictures it may beat a layer that did learn something, too, by luck: there, only chance must be beaten.

    Args:
        loss: of the last layer, in nats, on pictures that it has not learned from.
        learned: targets ``[N, K]`` of those that it has.
        watched: targets ``[M, K]`` of the others.
        strict: whether it must beat that mean; a fold of many, which only lends some, may be unlucky.

    Raises:
        FitError: it learned nothing, or its loss is no number.
    """
    chance = math.log(learned.shape[1])
    mean = learned.mean(dim=0).clamp_min(torch.finfo(learned.dtype).tiny)
    blind = soft_cross_entropy(mean.log().expand_as(watched), watched).item()
    least = min(blind, chance) if strict and len(watched) >= ENOUGH else chance
    if not loss < least:  # so that what is no number is refused, too
        raise FitError(
            f"the last layer alone reaches {loss:.3f} nats on the validation pictures; the mean of the "
            f"training pictures reaches {blind:.3f}, and chance is {chance:.3f}: it learned nothing. Check "
            "that labels and pictures belong together"
        )


def _apart(
    rated: AffectiveSet, indices: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Seven eighths and an eighth of the pictures; near duplicates stay together where there are others."""
    groups = rated.groups[indices]
    if len(np.unique(groups)) == 1:
        groups = np.arange(len(indices))
    cut = GroupShuffleSplit(n_splits=1, test_size=1 / 8, random_state=seed)
    ((most, few),) = cut.split(indices, groups=groups)
    return indices[most], indices[few]


def phase_two(job: Job) -> None:
    """All layers, epoch by epoch from where the run stands.

    Raises:
        FitError: the loss became no number.
    """
    settings = job.settings
    optimiser = make_optimiser(job.network, settings, job.imitation)
    peaks = [group["lr"] for group in optimiser.param_groups]
    meta = restore(job.run.last, job.whole, optimiser)
    best = float(meta["best"])
    for epoch in range(int(meta["epoch"]) + 1, settings.epochs + 1):
        began = time.monotonic()
        train_loss = run_epoch(job, optimiser, peaks, epoch)
        validation_loss = _validate(job)
        if not math.isfinite(train_loss):
            raise FitError(
                f"after epoch {epoch} of {settings.epochs} the loss is no number: lower --rate, now "
                f"{settings.rate:g}. The epochs before are kept in {job.run.folder}"
            )
        _report(job.run, "all", epoch, (train_loss, validation_loss), began)
        # Without validation pictures the number of epochs is settled and the last one the result.
        improved = validation_loss < best or not len(job.partition.validation)
        best = min(best, validation_loss)
        if improved:
            save(job.run.best, job.network, None, _meta(job, epoch, best))
        save(job.run.last, job.whole, optimiser, _meta(job, epoch, best))


def run_epoch(job: Job, optimiser: torch.optim.Optimizer, peaks: list[float], epoch: int) -> float:
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
        size = min(settings.batch, len(pictures) - step * settings.batch)
        share = distributed.own_share(size)
        shown, wanted = blended(inputs, target, settings.mixup)
        loss, cross_entropy = job.lesson(shown, wanted, kept_features(job.network, size)[share.places])
        # Gradients are averaged over processes, whose shares may be unlike; so it is the batch's mean again.
        (distributed.world() * share.weight * loss).backward()
        optimiser.step()
        losses.append(share.weight * cross_entropy.item())
    return math.fsum(distributed.everyone(float(np.mean(losses))))


def schedule(done: float) -> float:
    """The rate's factor after a share `done` of all steps: a linear rise, then a cosine to zero."""
    if done < WARM_UP:
        return done / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


def make_optimiser(
    network: EmotionInception, settings: FitSettings, imitation: Imitation | None = None
) -> torch.optim.AdamW:
    """AdamW with a lower rate for every block further from the last layer."""
    groups = [
        {"params": parameters, "lr": settings.rate * settings.layer_decay**depth}
        for depth, (_, parameters) in enumerate(layer_groups(network))
    ]
    if imitation is not None:
        groups.append(
            {"params": list(imitation.parameters()), "lr": 10 * settings.rate}
        )  # it starts from chance
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay)


@torch.no_grad()
def _validate(job: Job) -> float:
    job.network.eval()
    if not len(job.partition.validation):
        return math.nan
    total = 0.0
    for inputs, target in _shown(job.plain(job.partition.validation), "validation"):
        with job.autocast():
            logits = job.network(channels_last(inputs, job.device))
        total += soft_cross_entropy(logits.float(), target.to(job.device)).item() * len(target)
    return math.fsum(distributed.everyone(total)) / len(job.partition.validation)


def _shown(loader: DataLoader[Sample], what: str) -> Iterable[Sample]:
    """The loader's batches, with a bar and the time left on the terminal's error stream."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=terminal(), transient=True) as progress:
        yield from progress.track(loader, description=what)


def terminal() -> Console:
    """Where progress is told, by one process for all."""
    return Console(stderr=True, quiet=not distributed.first(), markup=False, emoji=False)


def _report(run: Run, phase: str, epoch: int, losses: tuple[float, float], began: float) -> None:
    row = {
        "phase": phase,
        "epoch": epoch,
        "train_loss": round(losses[0], 5),
        "validation_loss": round(losses[1], 5),
        "seconds": round(time.monotonic() - began, 1),
    }
    run.log(row)
    terminal().print("  ".join(f"{key} {value}" for key, value in row.items()), highlight=False)


def _meta(job: Job, epoch: int, best: float) -> dict[str, str]:
    """Progress, and what `training.pretrained.load` needs to start another run from this one."""
    if not distributed.first():
        return {}  # the others write nothing, and the folder may be out of their reach
    record = job.run.record()
    return {
        "epoch": str(epoch),
        "best": repr(best),
        "mean": str(record["mean"]),
        "std": str(record["std"]),
        "count_border": json.dumps(record["count_border"]),
        "provenance": str(record["start_weights"]),
        "learned_from": json.dumps(record["data"]),
        LEARNED: job.learned,
        "labels": json.dumps(record["labels"]),
        "reads": json.dumps(record["settings"]["reads"]),
        "commands": "\n".join([*record["earlier_commands"], record.get("command", "")]),
    }
