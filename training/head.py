"""Phase one: the new last layer alone, everything before it frozen.

The frozen blocks turn a picture into the same numbers every time, so they run once a picture. What is left
is multinomial logistic regression on soft targets: convex, solved by L-BFGS, with the strength of its
penalty chosen on the validation pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import torch
from torch import Tensor, nn

from training import distributed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from training.pictures import Sample

PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
ITERATIONS = 80
_FLAT = 1e-3  # a feature that hardly varies is not blown up


class Seeing(Protocol):
    """A network that turns pictures into features."""

    def eval(self) -> Self:
        """Evaluation mode."""

    def features(self, pictures: Tensor) -> Tensor:
        """Of pictures, ``[N, F]``: what a last layer reads."""


class Headed(Protocol):
    """A network whose last layer can be fitted alone."""

    head: nn.Linear


@dataclass(frozen=True)
class HeadFit:
    """What phase one found: the penalty, and the losses in nats."""

    penalty: float
    train_loss: float
    validation_loss: float


@torch.no_grad()
def extract(network: Seeing, batches: Iterable[Sample], device: torch.device) -> tuple[Tensor, Tensor]:
    """Pooled features ``[N, F]`` and targets ``[N, K]``, on the CPU; several processes share the work."""
    network.eval()
    own = [
        (network.features(channels_last(pictures, device)).float().cpu(), target)
        for pictures, target in batches
    ]
    features, targets = zip(*distributed.in_turns(own), strict=True)
    return torch.cat(features), torch.cat(targets)


def channels_last(pictures: Tensor, device: torch.device) -> Tensor:
    """Pictures on the device in the layout that its convolutions are fastest with."""
    return pictures.to(device, memory_format=torch.channels_last, non_blocking=True)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy to distributions, in nats: KL plus a constant."""
    return -(targets * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()


def fit_head(network: Headed, training: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor]) -> HeadFit:
    """Solve the last layer for every penalty and keep the one with the lowest validation loss."""
    features, targets = training
    mean, spread = features.mean(dim=0), features.std(dim=0) + _FLAT
    standard = (features - mean) / spread
    best: HeadFit | None = None
    for penalty in PENALTIES:
        weight, bias = _solve(standard, targets, penalty)
        # Folding the standardisation into the layer keeps the network free of it.
        weight, bias = weight / spread[:, None], bias - (mean / spread) @ weight
        losses = [
            soft_cross_entropy(inputs @ weight + bias, wanted).item()
            for inputs, wanted in (training, validation)
        ]
        if best is None or losses[1] < best.validation_loss:
            best = HeadFit(penalty, *losses)
            with torch.no_grad():
                network.head.weight.copy_(weight.T)
                network.head.bias.copy_(bias)
    assert best is not None  # noqa: S101 - there is at least one penalty
    return best


def _solve(features: Tensor, targets: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    weight = torch.zeros(features.shape[1], targets.shape[1], requires_grad=True)
    bias = torch.zeros(targets.shape[1], requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = soft_cross_entropy(features @ weight + bias, targets) + penalty * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()
