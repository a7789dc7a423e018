from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from app.loading import load
from tests.training.colours import SIDE, draw_folder, write_start_weights
from training import pretrained
from training.__main__ import main
from training.sources import SourceOptions
from training.sources import load as load_source

if TYPE_CHECKING:
    from pathlib import Path

    from app.checkpoint import Checkpoint
    from training.affective_set import AffectiveSet
    from training.pretrained import StartWeights


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Batches of a few small pictures gain nothing from more, and wait for them where cores are busy."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def colour_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty pictures of three colours, one folder a colour."""
    return draw_folder(tmp_path_factory.mktemp("pictures") / "colours")


@pytest.fixture(scope="session")
def rated(colour_folder: Path) -> AffectiveSet:
    """Those pictures, as the command line reads them."""
    return load_source("image_folder", colour_folder, SourceOptions(terms="free"))


@pytest.fixture(scope="session")
def start_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Start weights of a real Inception-V3."""
    return write_start_weights(tmp_path_factory.mktemp("weights") / "start.safetensors")


@pytest.fixture(scope="session")
def start(start_file: Path) -> StartWeights:
    """The start weights, loaded."""
    return pretrained.load(start_file)


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory, colour_folder: Path, start_file: Path) -> Path:
    """The folder of a finished run, made on the command line."""
    folder = tmp_path_factory.mktemp("runs") / "colours"
    words = ["fit", "image_folder", str(colour_folder), "--run", str(folder), "--weights", str(start_file)]
    words += ["--side", str(SIDE), "--epochs", "1", "--batch", "8", "--device", "cpu", "--terms", "free"]
    assert main(words) == 0
    return folder


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory, colour_folder: Path, fitted: Path) -> Path:
    """The checkpoint of that run, exported on the command line."""
    path = tmp_path_factory.mktemp("models") / "colours.pt"
    words = ["export", "image_folder", str(colour_folder), "--run", str(fitted), "--output", str(path)]
    assert main([*words, "--version", "7"]) == 0
    return path


@pytest.fixture(scope="session")
def colours(released: Path) -> Checkpoint:
    """That checkpoint, as the service would load it."""
    return load(released, torch.device("cpu"))
