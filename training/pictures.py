"""Rated pictures as tensors: plain, as the service sees them, or augmented for training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from app.picture import decode
from training.augment import compose

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    """Batches in order, or shuffled by a seed; none is left out."""
    generator = None
    if shuffle_seed is not None:
        generator = torch.Generator().manual_seed(shuffle_seed)
    return DataLoader(
        pictures,
        batch_size=batch,
        shuffle=shuffle_seed is not None,
        generator=generator,
        num_workers=workers,
    )
