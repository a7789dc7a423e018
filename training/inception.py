"""Inception-V3 with a new last layer for evoked emotions.

The network is torchvision's (Szegedy et al. 2016, arXiv 1512.00567), taken apart into its named blocks so
that a checkpoint can show what its inner layers see, without the auxiliary classifier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.inception import BasicConv2d, Inception3

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from training.pretrained import StartWeights

BLOCKS = (
    "Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1",
    "Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2",
    "Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e",
    "Mixed_7a", "Mixed_7b", "Mixed_7c",
)  # fmt: skip
CHANNELS = {
    "Mixed_5b": 256, "Mixed_5c": 288, "Mixed_5d": 288, "Mixed_6a": 768, "Mixed_6b": 768, "Mixed_6c": 768,
    "Mixed_6d": 768, "Mixed_6e": 768, "Mixed_7a": 1280, "Mixed_7b": 2048, "Mixed_7c": 2048,
}  # fmt: skip
LAST_BLOCK = ("Mixed_7c",)


class InceptionError(ValueError):
    """The network cannot be built as it is asked for; the message says why."""


class _BorderFreePool(BasicConv2d):  # type: ignore[misc]  # torchvision has no types
    """The pooling branch of a Mixed block as Keras computes it.

    The block has averaged 3 x 3 windows with the zero border counted, as torchvision does. Dividing by the
    share of each window that lies inside the picture takes the border out of the count again.
    """

    def forward(self, x: Tensor) -> Tensor:
        inside = functional.avg_pool2d(torch.ones_like(x[:1, :1]), 3, stride=1, padding=1)
        # Spelled out, because TorchScript knows no super().
        y: Tensor = functional.relu(self.bn(self.conv(x / inside)), inplace=True)
        return y


class EmotionInception(nn.Module):
    """Pictures ``[N, 3, H, W]``, ``uint8`` or floating point in 0..255, to logits ``[N, K]``.

    Args:
        labels: K, the number of emotions.
        mean: subtracted from pixels scaled to 0..1.
        std: divides what is left.
        count_border: whether average pooling counts the zero border (torchvision) or not (Keras).
        reads: the Mixed blocks whose pooled outputs the last layer reads, in order of depth.
        dropout: share of the pooled features that is dropped while training.

    Raises:
        InceptionError: there is nothing to read, or no block of that name.
    """

    def __init__(
        self,
        labels: int,
        *,
        mean: float,
        std: float,
        count_border: bool,
        reads: Sequence[str] = LAST_BLOCK,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if unknown := set(reads) - set(CHANNELS):
            raise InceptionError(f"no such blocks: {sorted(unknown)}; there are {', '.join(CHANNELS)}")
        if not reads:
            raise InceptionError("the last layer must read at least one block")
        trunk = Inception3(num_classes=labels, aux_logits=False, init_weights=False)
        self.blocks = nn.ModuleDict({name: getattr(trunk, name) for name in BLOCKS})
        if not count_border:
            for block in self.blocks.values():
                _exclude_border(block)
        self.reads = [name for name in BLOCKS if name in reads]
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(sum(CHANNELS[name] for name in self.reads), labels)
        self.mean = mean
        self.std = std
        self.count_border = count_border

    def normalise(self, pictures: Tensor) -> Tensor:
        """Pixels in 0..255 to what the first convolution expects."""
        return (pictures.to(self.head.weight.dtype) / 255.0 - self.mean) / self.std

    def features(self, pictures: Tensor) -> Tensor:
        """Pooled outputs of the blocks that the last layer reads, ``[N, F]``."""
        return self.features_and_last(pictures)[0]

    def features_and_last(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """`features`, and the output of the last block, ``[N, 2048, h, w]``."""
        x = self.normalise(pictures)
        pooled: list[Tensor] = []
        for name, block in self.blocks.items():
            x = block(x)
            if name in self.reads:
                pooled.append(x.mean(dim=(2, 3)))
        return torch.cat(pooled, dim=1), x

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits ``[N, K]``."""
        logits: Tensor = self.head(self.dropout(self.features(pictures)))
        return logits

    @torch.jit.export
    def activations(self, pictures: Tensor) -> dict[str, Tensor]:
        """What every block puts out, ``[N, C, h, w]`` by the block's name."""
        x = self.normalise(pictures)
        outputs: dict[str, Tensor] = {}
        for name, block in self.blocks.items():
            x = block(x)
            outputs[name] = x
        return outputs

    def train(self, mode: bool = True) -> EmotionInception:
        """Switch dropout. Batch-norm statistics stay frozen: some hundred pictures would ruin them."""
        super().train(mode)
        self.blocks.eval()
        return self

    def load_trunk(self, state: Mapping[str, Tensor]) -> None:
        """Take over every block's weights from a torchvision state dictionary; its last layer is ignored.

        Raises:
            InceptionError: the dictionary lacks some of them.
        """
        wanted = self.blocks.state_dict()
        missing = {key for key in wanted if key not in state and not key.endswith("num_batches_tracked")}
        if missing:
            raise InceptionError(
                f"the start weights lack {len(missing)} tensors, the first is {min(missing)}"
            )
        self.blocks.load_state_dict({key: state.get(key, value) for key, value in wanted.items()})


def build(
    labels: int, start: StartWeights, *, reads: Sequence[str] = LAST_BLOCK, dropout: float = 0.5
) -> EmotionInception:
    """The network with pretrained blocks and a last layer that starts at zero.

    A zero layer predicts the uniform distribution, so phase one starts from chance, whatever the seed.
    """
    network = EmotionInception(
        labels, mean=start.mean, std=start.std, count_border=start.count_border, reads=reads, dropout=dropout
    )
    network.load_trunk(start.state)
    nn.init.zeros_(network.head.weight)
    nn.init.zeros_(network.head.bias)
    return network.eval()


def freeze(network: EmotionInception, last: str) -> None:
    """Let no block learn from the first to `last`.

    Raises:
        InceptionError: there is no block of that name.
    """
    if last not in BLOCKS:
        raise InceptionError(f"no block {last!r} to freeze; there are {', '.join(BLOCKS)}")
    for name in BLOCKS[: BLOCKS.index(last) + 1]:
        network.blocks[name].requires_grad_(requires_grad=False)


def layer_groups(network: EmotionInception) -> Iterator[tuple[str, list[nn.Parameter]]]:
    """Parameters that learn, from the last layer down to the first convolution, block by block."""
    yield "head", list(network.head.parameters())
    for name in reversed(BLOCKS):
        if parameters := [each for each in network.blocks[name].parameters() if each.requires_grad]:
            yield name, parameters


def _exclude_border(block: nn.Module) -> None:
    if isinstance(branch := getattr(block, "branch_pool", None), BasicConv2d):
        free = _BorderFreePool(branch.conv.in_channels, branch.conv.out_channels, kernel_size=1)
        block.branch_pool = free
