from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from app.checkpoint import Checkpoint, load
from tests.tiny import write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def checkpoint_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint on disk, with its checksums."""
    return write_checkpoint(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def checkpoint(checkpoint_path: Path) -> Checkpoint:
    """The tiny checkpoint, loaded."""
    return load(checkpoint_path, torch.device("cpu"))


@pytest.fixture
def anyio_backend() -> str:
    """The service runs on asyncio only, as uvicorn does."""
    return "asyncio"
