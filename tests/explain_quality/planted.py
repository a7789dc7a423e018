"""Pictures whose class is one patch at a known place, and a small network that has learned to see it.

What a map should show is then known exactly, which it never is on a photograph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from app.checkpoint import Checkpoint
from tests.tiny import LABELS, tiny_card

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.engine.jobs import Pixels

SIDE = 96
PATCH = 28
_STEPS = 400
_BATCH = 32
_RATE = 3e-3
_ENOUGH = 0.05
_SURE = 5


@dataclass(frozen=True)
class Planted:
    """A picture, the class of its patch, and where that is, ``[S, S]``."""

    pixels: Pixels
    emotion: int
    inside: NDArray[np.bool_]


def planted(rng: np.random.Generator) -> Planted:
    """A cloudy picture with flecks everywhere, and one patch of fine stripes, upright, lying or slanted."""
    clouds = functional.interpolate(
        torch.from_numpy(rng.normal(size=(1, 3, 6, 6))), size=(SIDE, SIDE), mode="bicubic"
    )
    pixels = 128 + 30 * clouds[0].numpy() + rng.normal(0, 10, (3, SIDE, SIDE))
    emotion = int(rng.integers(len(LABELS)))
    top, left = rng.integers(2, SIDE - PATCH - 2, 2)
    rows, columns = np.mgrid[:PATCH, :PATCH] + rng.integers(0, 6)
    along = (columns, rows, columns + rows)[emotion]
    stripes = 50 * np.sign(np.sin(2 * np.pi * along / 6) + 1e-6)
    pixels[:, top : top + PATCH, left : left + PATCH] += stripes
    inside = np.zeros((SIDE, SIDE), bool)
    inside[top : top + PATCH, left : left + PATCH] = True
    return Planted(pixels.clip(0, 255).astype(np.uint8), emotion, inside)


class SmallNetwork(nn.Module):
    """Three convolutions, and the mean of what they see."""

    def __init__(self) -> None:
        super().__init__()
        self.see = nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(),
            nn.Conv2d(32, 32, 3), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(32, len(LABELS))

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits ``[N, K]`` of pictures in 0..255."""
        seen = self.see(pictures.float() / 127.5 - 1)
        logits: Tensor = self.head(seen.mean(dim=(2, 3)))
        return logits


def trained(seed: int = 0) -> Checkpoint:
    """A checkpoint whose network knows the patches; it says so itself by its loss.

    Raises:
        RuntimeError: it has not learned them.
    """
    network = untrained(seed)
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=_RATE)
    losses = [math.inf] * _SURE
    while max(losses[-_SURE:]) > _ENOUGH:
        if len(losses) > _STEPS:
            raise RuntimeError(f"the network has not learned the patches: {losses[-_SURE:]}")
        batch = [planted(rng) for _ in range(_BATCH)]
        pictures = torch.from_numpy(np.stack([each.pixels for each in batch]))
        loss = functional.cross_entropy(network(pictures), torch.tensor([each.emotion for each in batch]))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    return as_checkpoint(network)


def untrained(seed: int) -> SmallNetwork:
    """With its first, random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SmallNetwork()


def as_checkpoint(network: SmallNetwork) -> Checkpoint:
    """As `app.loading.load` would give it."""
    network = network.eval().requires_grad_(requires_grad=False)
    script = torch.jit.script(network)
    return Checkpoint(cast("torch.jit.ScriptModule", script), tiny_card(), "0" * 64, torch.device("cpu"))
