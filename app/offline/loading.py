"""The checkpoint and the devices that the settings name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.checkpoint import CheckpointError
from app.devices import Device, choose_devices
from app.engine import Model, load_model

if TYPE_CHECKING:
    from pathlib import Path

    from app.settings import Settings


@dataclass(frozen=True)
class Loaded:
    """A checkpoint that is ready to predict.

    Attributes:
        model: with a copy of the network on each device.
        devices: in the order of the copies.
    """

    model: Model
    devices: tuple[Device, ...]


def load(settings: Settings, *, one_device: bool = False) -> Loaded:
    """Verify and load the checkpoint.

    Args:
        settings: name the checkpoint, the device with its threads, and the precision.
        one_device: take the first device only, for work that has no use for more.

    Raises:
        CheckpointError: the checkpoint cannot be trusted, read, or put on the device.
    """
    devices = choose_devices(settings.device, settings.threads)
    if one_device:
        devices = devices[:1]
    return Loaded(load_model(checkpoint_path(settings), devices, settings.precision), devices)


def checkpoint_path(settings: Settings) -> Path:
    """Where the checkpoint is; a relative path leads elsewhere from each folder, so that is told.

    Raises:
        CheckpointError: there is none.
    """
    path = settings.checkpoint.absolute()
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint at {path}; DEEPEMOTION_CHECKPOINT says where one is")
    return path
