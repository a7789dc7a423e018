"""From a checkpoint back to weights that training can start from.

Export folds each batch norm into its convolution, which keeps only their product. How much of it is the
kernel's and how much the norm's does not matter to the function, but to the optimiser, whose steps are of one
size: each output channel's kernel becomes of length 1, which is the size that trained networks have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torchvision.models.inception import BasicConv2d

from app.checkpoint import CheckpointError, load_torchscript
from training.inception import EmotionInception

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from app.card import Card

_SMALLEST = 1e-12
_SPARING_POOL = "_BorderFreePool"
"""What checkpoints call pooling that leaves the border out: a name in files, whatever the class becomes."""


def unfold(path: Path) -> tuple[EmotionInception, Card]:
    """The network in a checkpoint with its batch norms apart again, the last layer included, and its card.

    Raises:
        CheckpointError: the checkpoint cannot be trusted or read, or holds another network than ours.
    """
    checkpoint = load_torchscript(path, torch.device("cpu"))
    scripted = getattr(checkpoint.network, "network", checkpoint.network)  # inside what judges novelty
    if getattr(scripted, "original_name", "") != EmotionInception.__name__:
        raise CheckpointError(f"{path} holds no network that `python -m training export` wrote")
    network = EmotionInception(
        len(checkpoint.card.labels),
        mean=scripted.mean,
        std=scripted.std,
        count_border=not any(_leaves_border_out(module) for module in scripted.modules()),
        reads=scripted.reads,
    )
    folded: dict[str, Tensor] = scripted.state_dict()
    network.head.load_state_dict({part: folded[f"head.{part}"] for part in ("weight", "bias")})
    with torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, BasicConv2d):
                _take_apart(module, folded[f"{name}.conv.weight"], folded[f"{name}.conv.bias"])
    return network.eval(), checkpoint.card


def _take_apart(module: BasicConv2d, kernel: Tensor, bias: Tensor) -> None:
    length = kernel.flatten(1).norm(dim=1).clamp(min=_SMALLEST)
    module.conv.weight.copy_(kernel / length[:, None, None, None])
    module.bn.weight.copy_(length)
    module.bn.bias.copy_(bias)
    module.bn.running_mean.zero_()
    module.bn.running_var.fill_(1.0 - module.bn.eps)


def _leaves_border_out(module: torch.nn.Module) -> bool:
    return getattr(module, "original_name", "") == _SPARING_POOL
