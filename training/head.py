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
from torch.nn import functional

from training import distributed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
    """What phase one found: the penalty, losses in nats, and whether it built on an earlier last layer."""

    penalty: float
    train_loss: float
    validation_loss: float
    built_on: bool = False


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


def fit_head(
    network: Headed,
    training: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    earlier: tuple[Tensor, Tensor] | None = None,
    *,
    penalties: Sequence[float] = PENALTIES,
) -> HeadFit:
    """Solve the last layer for every penalty and keep the one with the lowest validation loss.

    Args:
        network: whose last layer is set.
        training: features ``[N, F]`` and targets ``[N, K]``.
        validation: the same of other pictures.
        earlier: weight ``[K, F]`` and bias ``[K]`` of a last layer that knows these emotions from another set
            of pictures. It is tried, too, to penalise the distance from it instead of the distance from zero.
        penalties: to choose from.
    """
    best: HeadFit | None = None
    for start in (None,) if earlier is None else (None, earlier):
        for penalty in penalties:
            solved = _last_layer(training, penalty, start)
            train_loss, validation_loss = (
                soft_cross_entropy(functional.linear(inputs, *solved), wanted).item()
                for inputs, wanted in (training, validation)
            )
            if best is None or validation_loss < best.validation_loss:
                best = HeadFit(penalty, train_loss, validation_loss, built_on=start is not None)
                _set(network, solved)
    assert best is not None  # noqa: S101 - there is at least one penalty
    return best


def refit_head(
    network: Headed, everything: tuple[Tensor, Tensor], found: HeadFit, earlier: tuple[Tensor, Tensor] | None
) -> None:
    """Solve the last layer once more in the way that was found best, with the pictures that found it, too."""
    _set(network, _last_layer(everything, found.penalty, earlier if found.built_on else None))


@torch.no_grad()
def _set(network: Headed, solved: tuple[Tensor, Tensor]) -> None:
    network.head.weight.copy_(solved[0])
    network.head.bias.copy_(solved[1])


def _last_layer(
    training: tuple[Tensor, Tensor], penalty: float, start: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor]:
    """Weight ``[K, F]`` and bias ``[K]`` for features ``[N, F]`` and targets ``[N, K]``."""
    features, targets = training
    mean, spread = features.mean(dim=0), features.std(dim=0) + _FLAT
    known = torch.zeros_like(targets) if start is None else functional.linear(features, *start)
    weight, bias = _solve((features - mean) / spread, targets, penalty, known)
    # Folding the standardisation into the layer keeps the network free of it.
    weight, bias = (weight / spread[:, None]).T, bias - (mean / spread) @ weight
    return (weight, bias) if start is None else (weight + start[0], bias + start[1])


def _solve(features: Tensor, targets: Tensor, penalty: float, known: Tensor) -> tuple[Tensor, Tensor]:
    """What to add to the logits ``[N, K]`` that are known: weight ``[F, K]`` and bias ``[K]``."""
    weight = torch.zeros(features.shape[1], targets.shape[1], requires_grad=True)
    bias = torch.zeros(targets.shape[1], requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = soft_cross_entropy(known + features @ weight + bias, targets)
        loss = loss + penalty * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()
