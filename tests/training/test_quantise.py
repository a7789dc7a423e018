from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from fastapi.testclient import TestClient

from app.card import Quantised
from app.checkpoint import CheckpointError, judge, load_torchscript
from app.compiled import INT8_SUFFIX
from app.loading import load
from app.main import create_app
from app.settings import Settings
from tests.training.colours import colour_set, copied_alone, scenes
from training.__main__ import main
from training.checksums import list_digest
from training.compile import compile_checkpoint, write_graph
from training.evaluate import EvaluationError
from training.partition import Partition
from training.quantise import quantise

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def path(released: Path, colour_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with its graph in 8-bit integers beside it."""
    path = copied_alone(released, tmp_path_factory.mktemp("quantised"))
    assert main(["quantise", "image_folder", str(colour_folder), str(path), "--pictures", "8"]) == 0
    return path


def copied(path: Path, folder: Path) -> Path:
    """The checkpoint with all that lies beside it."""
    return shutil.copytree(path.parent, folder / "copy") / path.name


def test_integers_say_about_what_single_precision_says(path: Path) -> None:
    pictures = scenes(6).numpy()
    found, expected = judge(load(path, CPU, precision="int8"), pictures), judge(load(path, CPU), pictures)
    assert np.array_equal(found.probabilities.argmax(1), expected.probabilities.argmax(1))
    assert 0 < np.abs(found.probabilities - expected.probabilities).mean() < 0.1  # of weights by chance
    assert found.sound.all()


def test_the_graph_has_no_kernels(path: Path) -> None:
    assert path.with_suffix(INT8_SUFFIX).stat().st_size < 0.02 * path.stat().st_size


def test_single_precision_is_as_before(path: Path) -> None:
    plain = load(path, CPU)
    assert plain.predicts == "TorchScript"
    assert plain.quantised is None


def test_what_integers_change_is_measured_on_the_test_pictures(path: Path) -> None:
    checkpoint = load(path, CPU, precision="int8")
    assert checkpoint.quantised is not None
    assert checkpoint.quantised.pictures == checkpoint.card.split.test
    assert set(checkpoint.quantised.changes) <= set(checkpoint.card.scores)
    change = checkpoint.quantised.changes["kl"]
    assert change.low <= change.value <= change.high
    assert 0 < abs(change.value) < 0.1


def test_the_service_says_that_it_predicts_in_integers(path: Path) -> None:
    settings = Settings(checkpoint=path, device="cpu", threads=1, precision="int8")
    with TestClient(create_app(settings)) as client:
        told = client.get("/v1/model").json()
    assert told["predicts"].endswith(", in 8-bit integers")
    quantised = load(path, CPU, precision="int8").quantised
    assert Quantised.model_validate(told["quantised"]) == quantised


def test_integers_that_cannot_be_had_are_not_replaced(released: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no .*colours\.int8\.onnx .*training quantise"):
        load(released, CPU, precision="int8")


def test_a_graph_that_is_not_listed_is_refused(path: Path, tmp_path: Path) -> None:
    copy = copied(path, tmp_path)
    graph = copy.with_suffix(INT8_SUFFIX)
    graph.write_bytes(graph.read_bytes() + b" ")
    with pytest.raises(CheckpointError, match=r"colours\.int8\.onnx has sha256"):
        load(copy, CPU, precision="int8")


def test_another_checkpoints_graph_is_refused(path: Path, tmp_path: Path) -> None:
    copy = copied(path, tmp_path)
    with copy.open("ab") as file:
        file.write(b"0")  # the same network by another digest
    list_digest(copy)
    with pytest.raises(CheckpointError, match="made of another checkpoint"):
        load(copy, CPU, precision="int8")


def test_a_graph_that_does_not_say_what_it_changes_is_refused(path: Path, tmp_path: Path) -> None:
    copy = copied(path, tmp_path)
    compile_checkpoint(load(copy, CPU), copy).replace(copy.with_suffix(INT8_SUFFIX))
    list_digest(copy.with_suffix(INT8_SUFFIX))
    with pytest.raises(CheckpointError, match="does not say what comes of 8-bit integers"):
        load(copy, CPU, precision="int8")


def test_a_machine_that_computes_something_else_is_found_out(path: Path, tmp_path: Path) -> None:
    copy = copied(path, tmp_path)
    graph = copy.with_suffix(INT8_SUFFIX)
    model = onnx.load(graph, load_external_data=False)
    told = Quantised.model_validate_json(model.metadata_props[0].value)
    elsewhere = told.model_copy(update={"answers": (0.9 * np.array(told.answers)).tolist()})
    model.metadata_props[0].value = elsewhere.model_dump_json()
    write_graph(model.SerializeToString(), graph)
    with pytest.raises(CheckpointError, match=r"cannot predict: its answers differ by .* is allowed"):
        load(copy, CPU, precision="int8")


def test_without_test_pictures_nobody_could_say_what_integers_change(
    path: Path, colour_folder: Path, tmp_path: Path
) -> None:
    copy, rated = copied(path, tmp_path), colour_set(colour_folder)
    before = copy.with_suffix(INT8_SUFFIX).read_bytes()
    everything = np.arange(len(rated))
    untested = Partition(train=everything, validation=everything[:0], test=everything[:0])
    with pytest.raises(EvaluationError, match="kept no picture apart"):
        quantise(load_torchscript(copy, CPU), copy, rated, untested, pictures=4)
    assert copy.with_suffix(INT8_SUFFIX).read_bytes() == before
