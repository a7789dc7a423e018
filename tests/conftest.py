from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import torch

from app.loading import load
from app.settings import PREFIX, Settings
from tests.api.serving import service
from tests.tiny import busywork_of, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from app.checkpoint import Checkpoint


# With AMX, sums of a batch and of its shares differ so much that a fit by two processes ends elsewhere than
# one by one. A process reads this once, at its first convolution. So it is said here, for all tests and the
# processes that they start: each computes the same whether it runs alone or with all others.
os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"

# Nor does it matter how whoever starts the tests has set up a service or a proxy of his own.
for _name in [name for name in os.environ if name.upper().startswith(PREFIX)]:
    del os.environ[_name]
for _name in ("no_proxy", "NO_PROXY"):
    os.environ[_name] = ",".join(filter(None, (os.environ.get(_name), "127.0.0.1,localhost")))


@pytest.fixture(scope="session")
def checkpoint_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint on disk, with its checksums."""
    return write_checkpoint(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def checkpoint(checkpoint_path: Path) -> Checkpoint:
    """The tiny checkpoint, loaded."""
    return load(checkpoint_path, torch.device("cpu"))


@pytest.fixture(scope="session")
def judging_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint that abstains and knows valences."""
    return write_checkpoint(tmp_path_factory.mktemp("judging"), judges=True)


@pytest.fixture(scope="session")
def judging(judging_path: Path) -> Checkpoint:
    """That checkpoint, loaded."""
    return load(judging_path, torch.device("cpu"))


@pytest.fixture
def anyio_backend() -> str:
    """The service runs on asyncio only, as uvicorn does."""
    return "asyncio"


@pytest.fixture(scope="session")
def base_settings(checkpoint_path: Path) -> Settings:
    """Settings of the tiny service; tests copy them with changes."""
    return Settings(checkpoint=checkpoint_path, device="cpu", threads=1)


@pytest.fixture(scope="session")
def client(base_settings: Settings) -> Iterator[httpx.Client]:
    """A client of one service that all tests share."""
    with service(base_settings) as shared:
        yield shared


@pytest.fixture(scope="session")
def judge(base_settings: Settings, judging_path: Path) -> Iterator[httpx.Client]:
    """A client of one service whose checkpoint abstains, that all tests share."""
    with service(base_settings.model_copy(update={"checkpoint": judging_path})) as shared:
        yield shared


@pytest.fixture(scope="session")
def crowded(base_settings: Settings, slow_checkpoint: Path) -> Iterator[httpx.Client]:
    """A client of one slow service with hardly any room, that all tests share."""
    limits = {
        "checkpoint": slow_checkpoint,
        "max_batch": 1,
        "max_predictions": 1,
        "max_explanations": 1,
        "running_explanations": 1,
    }
    with service(base_settings.model_copy(update=limits)) as shared:
        yield shared


@pytest.fixture(scope="session")
def slow_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose network takes a third of a second for a batch or a gradient step, on any machine."""
    return write_checkpoint(tmp_path_factory.mktemp("slow"), busywork=busywork_of(0.33))
