"""What the tests of the engine share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from app.loading import load
from tests.tiny import write_checkpoint

if TYPE_CHECKING:
    from app.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def frail(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("frail")
    return load(write_checkpoint(folder, fails_on_white=True), torch.device("cpu"))
