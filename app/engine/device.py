"""How a device fails, and waiting for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from app.devices import Device

_NO_MEMORY = ("can't allocate memory", "out of memory")


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
