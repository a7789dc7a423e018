from __future__ import annotations

import copy
import errno
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from app.checkpoint import CHECKSUMS, Checkpoint, sha256_of
from app.loading import load
from tests.tiny import tiny_card
from tests.training.colours import scenes, settle
from training.checksums import list_digest
from training.export import fold_batch_norm, write
from training.inception import BLOCKS, EmotionInception

if TYPE_CHECKING:
    from training.pretrained import StartWeights

LABELS = 3


@pytest.fixture(scope="module")
def network(start: StartWeights) -> EmotionInception:
    """With everything that a checkpoint can have: two blocks read, and pooling that spares the border."""
    made = EmotionInception(
        LABELS, mean=0.4, std=0.6, count_border=False, reads=("Mixed_6e", "Mixed_7c"), dropout=0.5
    )
    made.load_trunk(start.state)
    torch.manual_seed(0)
    nn.init.normal_(made.head.weight, std=0.05)
    settle(made, scenes(16))
    return made


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return scenes(4)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, network: EmotionInception) -> Path:
    """Where the network was exported to, from training mode, beside another checkpoint's digest."""
    folder = tmp_path_factory.mktemp("models")
    (folder / CHECKSUMS).write_text(f"{'0' * 64}  other.pt\n{'1' * 64}  mine.pt\n")
    network.train()
    write(network, tiny_card(), folder / "mine.pt")
    network.eval()
    return folder / "mine.pt"


@pytest.fixture(scope="module")
def exported(path: Path) -> Checkpoint:
    return load(path, torch.device("cpu"))


def probabilities(logits: torch.Tensor) -> torch.Tensor:
    return torch.softmax(logits.double(), dim=1)


@torch.no_grad()
def test_folding_batch_norm_changes_nothing(network: EmotionInception, pictures: torch.Tensor) -> None:
    before = {key: value.clone() for key, value in network.state_dict().items()}
    folded = fold_batch_norm(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    expected = probabilities(network(pictures))
    assert expected.std(dim=0).max() > 0.01, "predictions that do not vary would compare nothing"
    assert (probabilities(folded(pictures)) - expected).abs().max() < 1e-5
    after = network.state_dict()
    assert after.keys() == before.keys(), "the network itself must stay as it is"
    assert all(torch.equal(after[key], value) for key, value in before.items())


@torch.no_grad()
def test_the_file_predicts_what_the_network_does(
    network: EmotionInception, exported: Checkpoint, pictures: torch.Tensor
) -> None:
    difference = probabilities(exported.network(pictures)) - probabilities(network(pictures))
    assert difference.abs().max() <= 2e-3


@torch.no_grad()
def test_rounding_is_all_that_the_file_loses(
    network: EmotionInception, exported: Checkpoint, pictures: torch.Tensor
) -> None:
    rounded = fold_batch_norm(network).half().float()
    difference = probabilities(exported.network(pictures)) - probabilities(rounded(pictures))
    assert difference.abs().max() <= 1e-5


@torch.no_grad()
def test_the_file_takes_bytes_and_floating_point_pixels(exported: Checkpoint, pictures: torch.Tensor) -> None:
    assert torch.equal(exported.network(pictures), exported.network(pictures.float()))


@torch.no_grad()
def test_the_file_takes_a_picture_alone_and_of_another_size(
    network: EmotionInception, exported: Checkpoint, pictures: torch.Tensor
) -> None:
    torch.testing.assert_close(
        exported.network(pictures[:1]), exported.network(pictures)[:1], rtol=1e-4, atol=1e-4
    )
    wide = pictures.repeat_interleave(2, dim=3)
    difference = probabilities(exported.network(wide)) - probabilities(network(wide))
    assert difference.abs().max() <= 2e-3


def test_gradients_reach_the_pixels(
    network: EmotionInception, exported: Checkpoint, pictures: torch.Tensor
) -> None:
    gradients = []
    for made in (exported.network, network):
        pixels = pictures.float().requires_grad_()
        made(pixels)[:, 0].sum().backward()
        assert pixels.grad is not None
        gradients.append(pixels.grad.flatten())
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert torch.cosine_similarity(gradients[0], gradients[1], dim=0) > 0.98
    assert all(parameter.grad is None for parameter in exported.network.parameters())
    network.zero_grad()


@torch.no_grad()
def test_the_file_shows_its_inner_layers(
    network: EmotionInception, exported: Checkpoint, pictures: torch.Tensor
) -> None:
    outputs = exported.network.activations(pictures)
    assert tuple(outputs) == BLOCKS
    expected = network.activations(pictures)
    for name in BLOCKS:
        assert torch.linalg.norm(outputs[name] - expected[name]) < 0.02 * torch.linalg.norm(expected[name])


def test_the_weights_are_stored_in_half_precision(network: EmotionInception, path: Path) -> None:
    single = 4 * sum(parameter.numel() for parameter in fold_batch_norm(network).parameters())
    assert 0.5 < path.stat().st_size / single < 0.52


def test_the_card_is_in_the_file(exported: Checkpoint) -> None:
    assert exported.card == tiny_card()


def test_only_the_files_own_checksum_is_replaced(path: Path) -> None:
    lines = (path.parent / CHECKSUMS).read_text("utf-8").splitlines()
    assert sorted(lines) == sorted([f"{'0' * 64}  other.pt", f"{sha256_of(path)}  mine.pt"])
    assert sorted(file.name for file in path.parent.iterdir()) == [CHECKSUMS, "mine.pt"]


def test_checksums_are_told_apart_by_the_whole_name(tmp_path: Path) -> None:
    sums = tmp_path / CHECKSUMS
    kept = [f"{'a' * 64}  not mine.pt", f"{'b' * 64} *another.pt"]
    old = [f"{'c' * 64} *mine.pt", ""]  # as `sha256sum --binary` writes it
    sums.write_text("\n".join([*kept, *old]))
    (tmp_path / "mine.pt").write_bytes(b"mine")
    digest = list_digest(tmp_path / "mine.pt")
    assert sorted(sums.read_text().splitlines()) == sorted([*kept, f"{digest}  mine.pt"])


def test_a_disk_that_is_full_takes_no_list_of_checksums_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.pt").write_bytes(b"mine")
    list_digest(tmp_path / "mine.pt")
    before = (tmp_path / CHECKSUMS).read_text("utf-8")
    (tmp_path / "other.pt").write_bytes(b"another")

    def full(path: Path, text: str, *_: object) -> None:
        path.write_bytes(text[:10].encode())
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        list_digest(tmp_path / "other.pt")
    assert (tmp_path / CHECKSUMS).read_text("utf-8") == before
    assert sorted(file.name for file in tmp_path.iterdir()) == [CHECKSUMS, "mine.pt", "other.pt"]


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(
    network: EmotionInception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object, path: str, **__: object) -> None:
        Path(path).write_bytes(b"a part")
        raise RuntimeError("PytorchStreamWriter failed writing file")

    monkeypatch.setattr("torch.jit._script.RecursiveScriptModule.save", full)
    with pytest.raises(OSError, match="cannot be written"):
        write(copy.deepcopy(network), tiny_card(), tmp_path / "mine.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_list_of_checksums_is_begun(tmp_path: Path) -> None:
    (tmp_path / "mine.pt").write_bytes(b"mine")
    digest = list_digest(tmp_path / "mine.pt")
    assert (tmp_path / CHECKSUMS).read_text() == f"{digest}  mine.pt\n"
    assert digest == sha256_of(tmp_path / "mine.pt")
