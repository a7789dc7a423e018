"""What is done on a device: a batch of predictions, and warming up. One thread at a time may call it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from app.checkpoint import judge
from app.explain.dream import DEFAULTS, Dream, take_step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from app.checkpoint import Checkpoint
    from app.devices import Device

_NO_MEMORY = ("can't allocate memory", "out of memory")


def warm_up(copy: Checkpoint, largest_batch: int) -> Iterator[Callable[[], object]]:
    """Pieces of work after which no request pays for a first time; each takes about as long as a batch.

    TorchScript specialises its graph on the second run of a network, and on the second of a gradient.

    Raises:
        FloatingPointError: from a piece, when the network's answer is not a number.
    """
    side = copy.card.input_size
    for size in (1, 1, 1, largest_batch):
        yield partial(_try_out, copy, np.zeros((size, 3, side, side), np.uint8))
    dream = Dream(np.zeros((3, side, side), np.uint8), 0, copy, DEFAULTS)
    while not dream.done:
        yield partial(take_step, copy.network, [dream])


def _try_out(copy: Checkpoint, pictures: NDArray[np.uint8]) -> None:
    if not judge(copy, pictures).sound.all():
        raise FloatingPointError("the network's answer to a black picture is not a number")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch might have fitted. A CPU's allocator raises a plain RuntimeError."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
    )


def wait_for(device: Device) -> None:
    """Wait until a GPU has done all that it was given; a processor has, when it returns.

    Raises:
        RuntimeError: the device has failed, and will at everything, so the thread that owns it ends.
    """
    if device.torch.type == "cuda":
        torch.cuda.synchronize(device.torch)
