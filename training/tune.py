"""Fine-tuning a teacher on rated pictures, until it sees what people feel and not only what things are.

A teacher that ImageNet has taught needs few passes for that, where a weaker trunk learns the same pictures by
heart. The sets may have other emotions each: each has a last layer of its own on the same features, which the
teacher keeps as its `opinion` of a picture, for a trunk to be taught by.

What keeps it from learning by heart: its first stages and all batch-norm statistics stay as they are,
earlier stages learn slower (timm's layer decay), pictures are augmented and blended (mixup), all targets are
smoothed (Szegedy et al. 2016), and the result is the moving average of the weights (Polyak 1992).
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from timm.optim._param_groups import param_groups_layer_decay
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from training.augment import DEFAULT as DEFAULT_AUGMENTATIONS
from training.fit_settings import ANY, LESS_THAN_ALL, SEED, SHARE, FitError, Precision, autocast, check_ranges
from training.head import channels_last, extract, soft_cross_entropy
from training.learned import check_unseen, describe, digests_of
from training.lesson import blended
from training.phases import schedule
from training.pictures import RatedPictures, batches, seeds
from training.pseudo_rate import learn
from training.teacher import scaled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from training.affective_set import AffectiveSet
    from training.partition import Partition
    from training.pictures import Sample
    from training.teacher import Teacher

_MOMENT = 10  # steps after which the average begins to reach further back


@dataclass(frozen=True)
class TuneSettings:
    """Everything that a fine-tuning depends on besides its pictures.

    Attributes:
        epochs: passes over the largest set.
        rate: at its highest. The last layers learn with twice that, the last stage with `layer_decay` of it.
        layer_decay: each layer's rate is that of the layer after it, times this.
        frozen: so many stages, and the stem before them, stay as they are.
        side: of the square pictures, in pixels.
        batch: pictures in a step, shared by the sets by the square roots of their sizes.
        weight_decay: of AdamW.
        dropout: share of the pooled features that is dropped.
        augment: names from `training.augment`.
        mixup: see `training.fit_settings.FitSettings`.
        smoothing: share of a target that is spread over all emotions.
        memory: share of the averaged weights that each step keeps.
        precision: of the convolutions.
        seed: of everything random.
    """

    epochs: int = 4
    rate: float = 3e-4
    layer_decay: float = 0.9
    frozen: int = 2
    side: int = 208
    batch: int = 32
    weight_decay: float = 0.02
    dropout: float = 0.3
    augment: tuple[str, ...] = DEFAULT_AUGMENTATIONS
    mixup: float = 0.2
    smoothing: float = 0.1
    memory: float = 0.998
    precision: Precision = "float32"
    seed: int = 1

    def __post_init__(self) -> None:
        check_ranges(self, _RANGES)


_RANGES = {
    "epochs": ANY,
    "rate": ANY,
    "layer_decay": SHARE,
    "frozen": ANY,
    "side": (32, ANY[1]),  # a smaller picture has less than a place left after five halvings
    "batch": (1, ANY[1]),
    "weight_decay": ANY,
    "dropout": LESS_THAN_ALL,
    "mixup": ANY,
    "smoothing": SHARE,
    "memory": SHARE,
    "seed": SEED,
}


@dataclass(frozen=True)
class Loss:
    """How well a teacher knows a set, by cross-entropy in nats.

    Attributes:
        name: of the set.
        before: on its validation pictures, of a last layer on what the teacher saw at first.
        after: the same on what it sees now.
    """

    name: str
    before: float
    after: float


def tune(
    teacher: Teacher,
    sets: Sequence[AffectiveSet],
    partitions: Sequence[Partition],
    settings: TuneSettings,
    *,
    device: torch.device,
    workers: int = 0,
    tell: Callable[[str], None] = lambda _: None,
    seen_test: bool = False,
) -> list[Loss]:
    """Let a teacher learn from the training pictures of sets, and give it their `opinion`.

    Args:
        teacher: whose network is of timm's and has ``blocks``; it is changed.
        sets: with different names.
        partitions: of the sets. The test pictures are not touched.
        settings: of it all.
        device: that it learns on.
        workers: processes that decode.
        tell: is told the losses of each epoch.
        seen_test: go on though the teacher has learned from test pictures before.

    Returns:
        What it brought, set by set.

    Raises:
        DataError: the teacher has learned from test pictures before.
        FitError: the loss became no number.
    """
    for rated, part in zip(sets, partitions, strict=True):
        check_unseen(rated, part, teacher.pictures, allowed=seen_test)
    began = time.monotonic()
    torch.manual_seed(settings.seed)
    learner = _Learner(teacher, [len(rated.labels) for rated in sets], settings).to(device)
    shown = [*zip(sets, partitions, strict=True)]
    before = _last_layers(learner, shown, settings, device, workers)
    average = AveragedModel(learner, avg_fn=_forgetting(settings.memory))
    optimiser = torch.optim.AdamW(learner.groups(settings), lr=settings.rate)
    peaks = [group["lr"] * group.get("lr_scale", 1.0) for group in optimiser.param_groups]
    for epoch in range(1, settings.epochs + 1):
        losses: list[list[float]] = [[] for _ in sets]
        count, steps = _steps(shown, settings, epoch, workers)
        for step, parts in enumerate(steps):
            done = (epoch - 1 + step / count) / settings.epochs
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * schedule(done)
            found = learner.losses(parts, settings, device)
            optimiser.zero_grad()
            shares = torch.tensor([len(target) for _, target in parts]) / sum(
                len(target) for _, target in parts
            )
            torch.dot(torch.stack(found).cpu(), shares).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            average.update_parameters(learner)
            for kept, loss in zip(losses, found, strict=True):
                kept.append(loss.item())
        del steps  # else its processes would go on decoding
        means = [sum(each) / len(each) for each in losses]
        if not all(map(torch.isfinite, torch.tensor(means))):
            raise FitError(f"after epoch {epoch} the loss is no number: lower the rate of {settings.rate:g}")
        said = ", ".join(f"{rated.name} {mean:.3f}" for rated, mean in zip(sets, means, strict=True))
        tell(f"epoch {epoch}: training loss {said}; {time.monotonic() - began:.0f} s")
    learner.load_state_dict(average.module.state_dict())
    after = _last_layers(learner, shown, settings, device, workers)
    teacher.learned(
        [(rated.name, rated.labels) for rated in sets],
        [*learner.heads.cpu()],
        [describe(*each) for each in shown],
        frozenset().union(*(digests_of(rated, part.train) for rated, part in shown)),
    )
    return [Loss(rated.name, *both) for rated, *both in zip(sets, before, after, strict=True)]


class _Learner(nn.Module):
    """A teacher's network with a last layer for each set."""

    network: Any  # has more than its type says
    mean: Tensor
    std: Tensor

    def __init__(self, teacher: Teacher, labels: Sequence[int], settings: TuneSettings) -> None:
        super().__init__()
        self.precision = settings.precision
        self.network = teacher.network
        self.network.requires_grad_(requires_grad=True)
        for part in (self.network.conv_stem, self.network.bn1, *self.network.blocks[: settings.frozen]):
            part.requires_grad_(requires_grad=False)
        self.heads = nn.ModuleList([nn.Linear(teacher.channels, count) for count in labels])
        self.register_buffer("mean", teacher.mean)
        self.register_buffer("std", teacher.std)
        self.to(memory_format=torch.channels_last)

    def groups(self, settings: TuneSettings) -> list[dict[str, Any]]:
        """The parameters that learn, with the factors of their rates; as timm has it, no bias decays."""
        decayed = settings.weight_decay, settings.layer_decay
        found: list[dict[str, Any]] = param_groups_layer_decay(
            self.network, decayed[0], layer_decay=decayed[1]
        )
        for name, decay in (("weight", settings.weight_decay), ("bias", 0.0)):
            last = [getattr(head, name) for head in self.heads]
            found.append({"params": last, "lr_scale": 2.0, "weight_decay": decay})
        return found

    def features(self, pictures: Tensor) -> Tensor:
        """Pooled features ``[N, C]`` of pictures ``[N, 3, H, W]`` in 0..255."""
        shown = scaled(pictures, self.mean, self.std).contiguous(memory_format=torch.channels_last)
        with autocast(self.precision, pictures.device):
            seen: Tensor = self.network.forward_features(shown)
            return seen.mean((2, 3))

    def losses(self, parts: Sequence[Sample], settings: TuneSettings, device: torch.device) -> list[Tensor]:
        """Cross-entropy of each set's part of a step."""
        shown = [blended(pictures, target, settings.mixup) for pictures, target in parts]
        pictures = channels_last(torch.cat([pictures.float() for pictures, _ in shown]), device)
        features = functional.dropout(self.features(pictures), settings.dropout)
        each = torch.split(features.float(), [len(target) for _, target in shown])
        return [
            soft_cross_entropy(head(seen), _smoothed(target, settings.smoothing).to(device))
            for head, seen, (_, target) in zip(self.heads, each, shown, strict=True)
        ]


def _smoothed(target: Tensor, share: float) -> Tensor:
    """Distributions ``[N, K]`` with this share of each spread over all K."""
    return (1 - share) * target + share / target.shape[1]


def _forgetting(memory: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """How a moving average takes in another step; at first it reaches back only as far as there are steps."""

    def take_in(kept: Tensor, new: Tensor, step: Tensor | int) -> Tensor:
        return torch.lerp(kept, new, 1 - min(memory, float(step) / (float(step) + _MOMENT)))

    return take_in


def _steps(
    shown: Sequence[tuple[AffectiveSet, Partition]], settings: TuneSettings, epoch: int, workers: int
) -> tuple[int, Iterator[tuple[Sample, ...]]]:
    """One pass over the largest set, with pictures of the others beside: how many steps, and the steps."""
    roots = [len(part.train) ** 0.5 for _, part in shown]
    counts = [max(2, round(settings.batch * root / sum(roots))) for root in roots]
    longest = max(1, *(len(part.train) // count for (_, part), count in zip(shown, counts, strict=True)))
    parts = [
        _endless(
            RatedPictures(
                rated,
                part.train,
                side=settings.side,
                augment=settings.augment,
                seed=seeds(settings.seed, epoch, place, count=1)[0],
            ),
            count,
            workers,
        )
        for place, ((rated, part), count) in enumerate(zip(shown, counts, strict=True))
    ]
    return longest, itertools.islice(zip(*parts, strict=False), longest)


def _endless(pictures: RatedPictures, count: int, workers: int) -> Iterator[Sample]:
    """Batches of one set, all over again when it ends."""
    for pictures.epoch in itertools.count():
        order = seeds(pictures.seed, pictures.epoch, count=1)[0]
        yield from batches(pictures, batch=count, workers=workers, shuffle_seed=order)


def _last_layers(
    learner: _Learner,
    shown: Sequence[tuple[AffectiveSet, Partition]],
    settings: TuneSettings,
    device: torch.device,
    workers: int,
) -> list[float]:
    """Solve each set's last layer on what is seen now; its loss on the validation pictures."""
    found = []
    for (rated, part), head in zip(shown, learner.heads, strict=True):
        training, validation = (
            extract(
                learner,
                batches(
                    RatedPictures(rated, indices, side=settings.side), batch=settings.batch, workers=workers
                ),
                device,
            )
            for indices in (part.train, part.validation)
        )
        opinion, fitted = learn(training, validation)
        head.load_state_dict(opinion.head.state_dict())
        found.append(fitted.validation_loss)
    return found
