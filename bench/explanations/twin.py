"""The checkpoint's network as a Python module, because hooks do not work on TorchScript.

Captum and pytorch-grad-cam explain this twin. Its logits are compared with the checkpoint's first.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn
from torchvision.models.inception import BasicConv2d

from training.inception import EmotionInception

if TYPE_CHECKING:
    from app.checkpoint import Checkpoint

_CLOSE = 1e-4


class NoTwin(Exception):
    """The checkpoint's network cannot be rebuilt; the message says why."""


def twin(checkpoint: Checkpoint) -> EmotionInception:
    """The same function, with its batch norms folded in as they are in the file.

    Raises:
        NoTwin: the logits differ.
    """
    judging = checkpoint.network
    script = getattr(judging, "network", judging)  # one that also judges novelty has it as a part
    network = EmotionInception(
        len(checkpoint.card.labels),
        mean=script.mean,
        std=script.std,
        count_border=script.blocks.Mixed_5b.branch_pool.original_name != "_BorderFreePool",
        reads=script.reads,
    )
    for module in network.modules():
        if isinstance(module, BasicConv2d):
            old = module.conv
            module.conv = nn.Conv2d(
                old.in_channels, old.out_channels, old.kernel_size, old.stride, old.padding, bias=True
            )
            module.bn = nn.Identity()
    network.load_state_dict(script.state_dict())
    network = network.eval().requires_grad_(requires_grad=False)
    side = checkpoint.card.input_size
    probe = torch.randint(0, 256, (2, 3, side, side), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = float((network(probe) - script(probe)).abs().max())
    if difference > _CLOSE:
        raise NoTwin(f"the twin's logits differ from the checkpoint's by {difference:g}")
    return network


def randomised(network: EmotionInception, seed: int = 0) -> EmotionInception:
    """A network that has learned nothing: each tensor of weights is shuffled, which keeps its scale."""
    shuffled = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    for weight in shuffled.parameters():
        order = torch.randperm(weight.numel(), generator=generator)
        weight.data = weight.flatten()[order].view_as(weight)
    return shuffled
