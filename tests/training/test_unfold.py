from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torchvision.models.inception import BasicConv2d

from app.checkpoint import CHECKSUMS
from app.loading import load
from tests.tiny import tiny_card, write_checkpoint
from tests.training.colours import scenes, settle
from training import pretrained
from training.export import write
from training.inception import EmotionInception, build
from training.novelty import JudgingNetwork, Novelty
from training.pretrained import WeightsError
from training.unfold import unfold

if TYPE_CHECKING:
    from pathlib import Path

    from training.pretrained import StartWeights

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=[True, False], ids=["torchvision", "keras"])
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, start: StartWeights
) -> Path:
    """A checkpoint with either way of pooling; one of them also judges novelty."""
    counts: bool = request.param
    network = EmotionInception(3, mean=0.4, std=0.6, count_border=counts, reads=("Mixed_6e", "Mixed_7c"))
    network.load_trunk(start.state)
    torch.nn.init.normal_(network.head.weight, std=0.05)
    settle(network, scenes(16))
    network.eval()
    with torch.no_grad():
        novelty = Novelty(network.features(scenes(16)))
    path = tmp_path_factory.mktemp("models") / "mine.pt"
    write(network if counts else JudgingNetwork(network, novelty).eval(), tiny_card(), path)
    return path


@torch.no_grad()
def test_the_network_comes_back_as_it_was_exported(exported: Path) -> None:
    network, card = unfold(exported)
    pictures = scenes(4)
    assert torch.allclose(network(pictures), load(exported, CPU).network(pictures), atol=1e-4)
    assert card == tiny_card()


def test_kernels_are_of_one_size(exported: Path) -> None:
    network, _ = unfold(exported)
    kernels = [each.conv.weight.flatten(1) for each in network.modules() if isinstance(each, BasicConv2d)]
    assert len(kernels) == 94
    assert all(torch.allclose(each.norm(dim=1), torch.ones(len(each))) for each in kernels)


@torch.no_grad()
def test_training_can_start_from_a_checkpoint(exported: Path) -> None:
    start = pretrained.load(str(exported))
    network, card = unfold(exported)
    assert (start.mean, start.std) == (0.4, 0.6)
    assert start.learned_from == card.data
    assert (start.provenance, start.commands) == (card.start_weights, (card.command,))
    other = build(7, start, reads=network.reads)
    pictures = scenes(2)
    assert torch.equal(other.features(pictures), network.features(pictures))
    assert not other.head.weight.any()  # other emotions, another last layer


def test_a_checkpoint_that_is_not_listed_is_not_started_from(exported: Path, tmp_path: Path) -> None:
    copy = tmp_path / "mine.pt"
    copy.write_bytes(exported.read_bytes())
    (tmp_path / CHECKSUMS).write_text(f"{'0' * 64}  mine.pt\n")
    with pytest.raises(WeightsError, match="sha256"):
        pretrained.load(copy)


def test_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no network that"):
        pretrained.load(write_checkpoint(tmp_path))
