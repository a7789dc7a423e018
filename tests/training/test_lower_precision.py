"""Half precision. No GPU is needed: a processor computes it too, and a graph is repeated by hand."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from app import loading
from app.card import Quantised
from app.checkpoint import CheckpointError, judge, judging, load_torchscript
from app.halved import HALF_SUFFIX, in_half
from app.loading import load
from tests.training.colours import colour_set, copied_alone, scenes
from training.__main__ import main
from training.checksums import list_digest
from training.evaluate import EvaluationError
from training.lower_precision import halve
from training.partition import Partition

if TYPE_CHECKING:
    from pathlib import Path

    from app.checkpoint import Checkpoint, Computing

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def path(released: Path, colour_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with what half precision changes beside it."""
    path = copied_alone(released, tmp_path_factory.mktemp("halved"))
    assert main(["halve", "image_folder", str(colour_folder), str(path), "--device", "cpu"]) == 0
    return path


@pytest.fixture
def on_a_gpu(path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """The checkpoint as if it were on a GPU, whose graphs are the work itself."""

    class Repeated:
        name = "CUDA graphs"

        def __init__(self, work: Computing, side: int, device: torch.device) -> None:
            del side, device
            self._work = work

        def __call__(
            self, pictures: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
        ) -> tuple[torch.Tensor, ...]:
            return self._work(torch.from_numpy(pictures))  # type: ignore[arg-type]

    monkeypatch.setattr(loading, "Captured", Repeated)
    monkeypatch.setattr(loading, "in_half", lambda work, _: in_half(work, CPU))
    return replace(load_torchscript(path, CPU), device=torch.device("cuda"))


def test_half_precision_says_about_what_single_precision_says(path: Path) -> None:
    checkpoint, pictures = load_torchscript(path, CPU), scenes(6)
    found, expected = in_half(judging(checkpoint), CPU)(pictures), judging(checkpoint)(pictures)
    for half, single in zip(found, expected, strict=True):
        assert half.dtype == single.dtype == torch.float32
        assert 0 < (half - single).abs().max() < 0.02 * single.abs().max()


def test_what_it_changes_is_measured_on_the_test_pictures(path: Path) -> None:
    checkpoint = load_torchscript(path, CPU)
    told = Quantised.model_validate_json(path.with_suffix(HALF_SUFFIX).read_text())
    assert told.sha256 == checkpoint.sha256
    assert told.pictures == checkpoint.card.split.test
    assert set(told.changes) <= set(checkpoint.card.scores)
    assert 0 < abs(told.changes["kl"].value) < 0.01


def test_a_gpu_predicts_in_it(on_a_gpu: Checkpoint, path: Path) -> None:
    halved = loading._in_half(on_a_gpu, path.with_suffix(HALF_SUFFIX))
    assert halved.predicts == "CUDA graphs, in half precision"
    assert halved.quantised is not None
    pictures = scenes(6).numpy()
    expected = judge(load_torchscript(path, CPU), pictures)
    found = judge(halved, pictures)
    assert found.probabilities == pytest.approx(expected.probabilities, abs=0.01)
    assert found.novelty == pytest.approx(expected.novelty, rel=0.02)


def test_a_processor_is_not_asked_for_it(path: Path) -> None:
    with pytest.raises(CheckpointError, match="half precision is for GPUs"):
        load(path, CPU, precision="float16")


def test_what_was_not_measured_is_not_offered(on_a_gpu: Checkpoint, released: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no .*colours\.float16\.json.*training halve"):
        loading._in_half(on_a_gpu, released.with_suffix(HALF_SUFFIX))


def test_a_measurement_that_is_not_listed_or_of_another_checkpoint_is_refused(
    on_a_gpu: Checkpoint, path: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(path.parent, tmp_path / "copy") / path.with_suffix(HALF_SUFFIX).name
    told = Quantised.model_validate_json(copy.read_text())
    copy.write_text(told.model_copy(update={"sha256": "0" * 64}).model_dump_json())
    with pytest.raises(CheckpointError, match=r"colours\.float16\.json has sha256"):
        loading._in_half(on_a_gpu, copy)
    list_digest(copy)
    with pytest.raises(CheckpointError, match="another checkpoint"):
        loading._in_half(on_a_gpu, copy)


def test_a_gpu_that_computes_something_else_is_found_out(
    on_a_gpu: Checkpoint, path: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(path.parent, tmp_path / "copy") / path.with_suffix(HALF_SUFFIX).name
    told = Quantised.model_validate_json(copy.read_text())
    copy.write_text(
        told.model_copy(update={"answers": (0.9 * np.array(told.answers)).tolist()}).model_dump_json()
    )
    list_digest(copy)
    with pytest.raises(CheckpointError, match=r"cannot predict: its answers differ by"):
        loading._in_half(on_a_gpu, copy)


def test_without_test_pictures_nothing_is_written(path: Path, colour_folder: Path, tmp_path: Path) -> None:
    copy, rated = tmp_path / "copy.pt", colour_set(colour_folder)
    everything = np.arange(len(rated))
    untested = Partition(train=everything, validation=everything[:0], test=everything[:0])
    with pytest.raises(EvaluationError, match="kept no picture apart"):
        halve(load_torchscript(path, CPU), copy, rated, untested)
    assert not copy.with_suffix(HALF_SUFFIX).exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_real_gpu_predicts_in_it(path: Path) -> None:
    gpu = torch.device("cuda")
    pictures = scenes(6).numpy()
    halved = load(path, gpu, precision="float16")
    assert halved.predicts == "TorchScript in CUDA graphs, in half precision"
    assert judge(halved, pictures).difference(judge(load_torchscript(path, gpu), pictures)) < 0.1
