"""Rated pictures as tensors: plain, as the service sees them, or augmented for training."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, Sampler, SequentialSampler

from app.picture import decode
from training import distributed
from training.augment import compose

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from training.affective_set import AffectiveSet

Sample = tuple[Tensor, Tensor]


class RatedPictures(Dataset[Sample]):
    """Pictures ``uint8 [3, side, side]`` with their targets ``[K]``.

    Args:
        rated: the set that the pictures belong to.
        indices: which of its pictures, in order.
        side: of the network's input.
        augment: names of augmentations; none for pictures exactly as the service sees them.
        seed: of the augmentations. Each picture of each epoch has its own, so neither the number of
            workers nor a resumed run changes what is drawn.
    """

    def __init__(
        self,
        rated: AffectiveSet,
        indices: NDArray[Any],
        *,
        side: int,
        augment: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        self.paths = [rated.pictures[i] for i in indices]
        self.targets = torch.from_numpy(rated.agreement[indices]).float()
        self.side = side
        self.transform = compose(augment, side) if augment else None
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        picture = decode(self.paths[index].read_bytes(), side=self.side)
        if self.transform is None:
            return torch.from_numpy(picture.as_input(self.side)), self.targets[index]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds(self.seed, self.epoch, index, count=1)[0])
            return self.transform(picture.rgb), self.targets[index]


def seeds(*parts: int, count: int) -> list[int]:
    """Independent seeds for one place in a run, the same on every machine."""
    return [int(seed) for seed in np.random.SeedSequence(parts).generate_state(count)]


def batches(
    pictures: RatedPictures, *, batch: int, workers: int = 0, shuffle_seed: int | None = None
) -> DataLoader[Sample]:
    """Batches in order, or shuffled by a seed; none is left out.

    Several processes take turns at the batches in order, and each has its share of every shuffled one.
    """
    if shuffle_seed is None:
        whole = BatchSampler(SequentialSampler(pictures), batch, drop_last=False)
        return DataLoader(pictures, batch_sampler=_Turns(whole), num_workers=workers)
    generator = torch.Generator().manual_seed(shuffle_seed)
    whole = BatchSampler(RandomSampler(pictures, generator=generator), batch, drop_last=False)
    return DataLoader(pictures, batch_sampler=_Shares(whole), generator=generator, num_workers=workers)


class _Turns(Sampler[list[int]]):
    """Of all batches those whose turn it is at this process."""

    def __init__(self, whole: BatchSampler) -> None:
        self.whole = whole

    def __iter__(self) -> Iterator[list[int]]:
        return islice(self.whole, distributed.rank(), None, distributed.world())

    def __len__(self) -> int:
        return len(range(distributed.rank(), len(self.whole), distributed.world()))


class _Shares(Sampler[list[int]]):
    """This process's share of every batch."""

    def __init__(self, whole: BatchSampler) -> None:
        self.whole = whole

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.whole:
            yield [batch[place] for place in distributed.own_share(len(batch)).places]

    def __len__(self) -> int:
        return len(self.whole)
