from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.explain_quality.planted import trained

if TYPE_CHECKING:
    from app.checkpoint import Checkpoint


@pytest.fixture(scope="session")
def network() -> Checkpoint:
    """It knows the planted patches; learned anew in each run of the tests, in some seconds."""
    return trained()
