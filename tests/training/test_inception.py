from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.models.inception import Inception3

from tests.training.colours import SIDE
from training.inception import (
    BLOCKS,
    CHANNELS,
    EmotionInception,
    InceptionError,
    build,
    layer_groups,
)

if TYPE_CHECKING:
    from training.pretrained import StartWeights

POOLING = tuple(name for name in CHANNELS if name not in {"Mixed_6a", "Mixed_7a"})
"""The blocks with an average pooling branch; its channels are the last ones of their output."""


def network(start: StartWeights, *, count_border: bool = True, **options: Any) -> EmotionInception:
    made = EmotionInception(3, mean=0.5, std=0.5, count_border=count_border, **options)
    made.load_trunk(start.state)
    return made.eval()


@pytest.fixture(scope="module")
def keras_like(start: StartWeights) -> EmotionInception:
    return network(start, count_border=False, reads=("Mixed_6e", "Mixed_7c"))


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return torch.randint(0, 256, (3, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0)).byte()


@torch.no_grad()
def test_the_blocks_are_torchvisions(start: StartWeights, pictures: torch.Tensor) -> None:
    theirs = Inception3(aux_logits=False, init_weights=False).eval()
    theirs.load_state_dict(start.state, strict=False)
    theirs.fc = nn.Identity()
    expected = theirs(pictures.float() / 127.5 - 1)
    features = network(start).features(pictures)
    assert features.std(dim=0).mean() > 0.01, "features that do not vary would compare nothing"
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", POOLING)
@torch.no_grad()
def test_border_free_pooling_divides_by_what_lies_inside(
    start: StartWeights, keras_like: EmotionInception, name: str
) -> None:
    block = keras_like.blocks[name]
    branch: Any = block.branch_pool
    x = torch.rand(2, branch.conv.in_channels, 4, 6)
    pooled = functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    weight, bn = start.state[f"{name}.branch_pool.conv.weight"], branch.bn
    expected = functional.relu(bn(functional.conv2d(pooled, weight)))
    torch.testing.assert_close(block(x)[:, -len(weight) :], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_only_the_pooling_depends_on_the_border(
    start: StartWeights, keras_like: EmotionInception, pictures: torch.Tensor
) -> None:
    free, counted = keras_like.activations(pictures), network(start).activations(pictures)
    assert torch.equal(free["maxpool2"], counted["maxpool2"])
    first = {"free": free["Mixed_5b"], "counted": counted["Mixed_5b"]}
    assert torch.equal(first["free"][:, :-32], first["counted"][:, :-32])
    inside = slice(1, -1)  # windows around these places do not reach the border
    torch.testing.assert_close(first["free"][:, :, inside, inside], first["counted"][:, :, inside, inside])
    assert not torch.allclose(first["free"], first["counted"])


def test_the_last_layer_is_as_wide_as_what_it_reads() -> None:
    reads = ("Mixed_7a", "Mixed_6e")
    deep = EmotionInception(5, mean=0.5, std=0.5, count_border=True, reads=reads)
    assert deep.reads == ["Mixed_6e", "Mixed_7a"]
    assert deep.head.weight.shape == (5, 768 + 1280)


@torch.no_grad()
def test_features_are_the_pooled_blocks_in_order_of_depth(
    keras_like: EmotionInception, pictures: torch.Tensor
) -> None:
    outputs = keras_like.activations(pictures)
    pooled = [outputs[name].mean(dim=(2, 3)) for name in ("Mixed_6e", "Mixed_7c")]
    torch.testing.assert_close(keras_like.features(pictures), torch.cat(pooled, dim=1))


@torch.no_grad()
def test_activations_name_every_block_and_its_channels(
    keras_like: EmotionInception, pictures: torch.Tensor
) -> None:
    outputs = keras_like.activations(pictures[:1])
    assert tuple(outputs) == BLOCKS
    for name, channels in CHANNELS.items():
        assert outputs[name].shape[:2] == (1, channels)


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(InceptionError, match=r"no such blocks: \['Mixed_9z'\]; there are Mixed_5b, "):
        EmotionInception(3, mean=0.5, std=0.5, count_border=True, reads=("Mixed_7c", "Mixed_9z"))
    with pytest.raises(InceptionError, match="at least one block"):
        EmotionInception(3, mean=0.5, std=0.5, count_border=True, reads=())


@torch.no_grad()
def test_bytes_and_floating_point_pixels_are_the_same_picture(
    keras_like: EmotionInception, pictures: torch.Tensor
) -> None:
    assert torch.equal(keras_like(pictures), keras_like(pictures.float()))


@torch.no_grad()
def test_pixels_are_scaled_shifted_and_divided() -> None:
    odd = EmotionInception(3, mean=0.25, std=0.5, count_border=True)
    pixels = torch.tensor([0, 255]).byte().reshape(1, 1, 1, 2)
    assert odd.normalise(pixels).flatten().tolist() == [-0.5, 1.5]


@torch.no_grad()
def test_training_switches_dropout_on_and_leaves_batch_norm_frozen(
    start: StartWeights, pictures: torch.Tensor
) -> None:
    training = network(start, dropout=0.5).train()
    assert training.training
    assert training.dropout.training
    norms = [module for module in training.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 94
    assert not any(norm.training for norm in norms)
    before = {key: value.clone() for key, value in training.blocks.state_dict().items()}
    torch.manual_seed(0)
    assert not torch.equal(training(pictures), training(pictures))
    after = training.blocks.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    training.eval()
    assert torch.equal(training(pictures), training(pictures))


def test_start_weights_that_lack_tensors_are_refused(start: StartWeights) -> None:
    kept = {key: value for key, value in start.state.items() if not key.startswith("Mixed_7c.branch1x1.")}
    with pytest.raises(InceptionError, match=r"lack 5 tensors, the first is Mixed_7c\.branch1x1\.bn\.bias"):
        EmotionInception(3, mean=0.5, std=0.5, count_border=True).load_trunk(kept)


def test_counts_of_batches_may_be_missing(start: StartWeights) -> None:
    kept = {key: value for key, value in start.state.items() if not key.endswith("num_batches_tracked")}
    assert len(kept) < len(start.state)
    EmotionInception(3, mean=0.5, std=0.5, count_border=True).load_trunk(kept)


@torch.no_grad()
def test_a_new_network_starts_from_chance(start: StartWeights, pictures: torch.Tensor) -> None:
    new = build(4, start, reads=("Mixed_7b",), dropout=0.1)
    assert not new.training
    assert new.dropout.p == 0.1
    assert torch.softmax(new(pictures), dim=1).flatten().tolist() == [0.25] * 12


def test_layer_groups_go_from_the_head_down_and_leave_nothing_out(keras_like: EmotionInception) -> None:
    groups = list(layer_groups(keras_like))
    names = [name for name, _ in groups]
    assert names == ["head", *(name for name in reversed(BLOCKS) if not name.startswith("maxpool"))]
    grouped = [id(parameter) for _, parameters in groups for parameter in parameters]
    assert sorted(grouped) == sorted(id(parameter) for parameter in keras_like.parameters())
