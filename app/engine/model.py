"""One checkpoint on every device of the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.checkpoint import Checkpoint, load

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch

    from app.card import Card


@dataclass(frozen=True, eq=False)
class Model:
    """What requests are answered with. Each keeps to the one that it began with, so a reload mixes nothing.

    Attributes:
        copies: the checkpoint on each device, in the order of the engine's devices.
    """

    copies: tuple[Checkpoint, ...]

    @property
    def card(self) -> Card:
        """What the checkpoint says of itself."""
        return self.copies[0].card

    @property
    def layers(self) -> tuple[str, ...]:
        """The inner layers that can be dreamed of."""
        return self.copies[0].layers

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of the checkpoint's file."""
        return self.copies[0].sha256


def load_model(path: Path, devices: Sequence[torch.device]) -> Model:
    """Verify and load a checkpoint onto each device.

    Raises:
        CheckpointError: see `app.checkpoint.load`.
    """
    return Model(tuple(load(path, device) for device in devices))
