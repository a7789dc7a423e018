"""Several processes that train one network, as ``torchrun`` starts them; usually there is one.

What is learned does not depend on their number, but for rounding: each takes its share of every batch, what
is random is drawn for the whole batch by all of them alike, and gradients are those of the whole batch.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from training.fit_settings import FitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import nn

T = TypeVar("T")


class FirstFailed(Exception):
    """The first process has failed, and says why; the others end with it."""


def launched() -> int:
    """How many processes were started together; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined(device: torch.device) -> Iterator[torch.device]:
    """Meet the processes that were started together; gives the device of this one.

    Args:
        device: asked for. With ``cuda``, each process on a machine has a GPU of its own.

    Raises:
        FitError: there are more processes on this machine than GPUs.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield device
        return
    if device.type == "cuda":
        local, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= there:
            raise FitError(
                f"this machine has fewer GPUs than processes: {there}; start one a GPU, or use --device cpu"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    yield device
    # Not after an error: leaving waits for the others, and the launcher ends them when this process ends.
    dist.destroy_process_group()


def rank() -> int:
    """Which of the processes this one is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def first() -> bool:
    """Whether this is the process that writes files and speaks."""
    return rank() == 0


def by_first(task: Callable[[], T]) -> T:
    """What the first process gets from a task; the others wait for it.

    Raises:
        FirstFailed: the task has failed, in every process but the first, which raises the error itself.
    """
    if world() == 1:
        return task()
    told: list[tuple[T, ...]] = [()]
    try:
        if first():
            told = [(task(),)]
    finally:
        dist.broadcast_object_list(told)
    if not told[0]:
        raise FirstFailed
    return told[0][0]


def everyone(own: T) -> list[T]:
    """What each of the processes has, in their order."""
    if world() == 1:
        return [own]
    found: list[T] = [own] * world()
    dist.all_gather_object(found, own)
    return found


def in_turns(own: Sequence[T]) -> list[T]:
    """The items that were dealt to the processes one by one, put together again."""
    missing = object()
    dealt = chain.from_iterable(zip_longest(*everyone(own), fillvalue=missing))
    return [item for item in dealt if item is not missing]  # type: ignore[misc]


@dataclass(frozen=True)
class Share:
    """The part of a batch that one process takes.

    Attributes:
        places: in the batch. A process that nothing is left for takes the first, so that it keeps step.
        weight: how much of the batch that is; 0 if nothing is.
    """

    places: list[int]
    weight: float


def own_share(size: int) -> Share:
    """This process's share of a batch of so many pictures."""
    return share_of(size, rank(), world())


def share_of(size: int, process: int, processes: int) -> Share:
    """The share of one of several processes.

    Mixup blends each picture with its mirror place in the batch, so the two stay together.
    """
    places = [place for place in range(size) if min(place, size - 1 - place) % processes == process]
    return Share(places or [0], len(places) / size)


def averaged(module: nn.Module, *, unused: bool) -> nn.Module:
    """The module, with gradients that are the mean of all processes', and the first one's weights.

    Args:
        module: that is trained, on its device.
        unused: whether some of its parameters have no part in the result.
    """
    if world() == 1:
        return module
    return DistributedDataParallel(module, find_unused_parameters=unused)
