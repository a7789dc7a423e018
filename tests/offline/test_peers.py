"""Captum's methods on the tiny network, which feels mean colours: green evokes joy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from app.offline.peers import METHODS, attribute
from tests.tiny import LABELS, SIDE

if TYPE_CHECKING:
    from app.checkpoint import Checkpoint
    from app.picture import Pixels

JOY = LABELS.index("joy")


@pytest.fixture
def half_green() -> Pixels:
    """Green on the left, and on the right the grey that pictures are compared with."""
    pixels = np.full((3, SIDE, SIDE), 127, np.uint8)
    pixels[:, :, : SIDE // 2] = np.array([40, 220, 40], np.uint8)[:, None, None]
    return pixels


@pytest.mark.parametrize("method", METHODS)
def test_what_evokes_the_emotion_is_found_with_its_sign(
    checkpoint: Checkpoint, half_green: Pixels, method: str
) -> None:
    found = attribute(checkpoint, half_green, JOY, method)
    left, right = found.relevance[:, : SIDE // 2 - 8].sum(), found.relevance[:, SIDE // 2 + 8 :].sum()
    assert found.rise > 0
    assert left > 10 * abs(right)
    assert attribute(checkpoint, half_green, 0, method).relevance.sum() < 0


def test_integrated_gradients_add_up(checkpoint: Checkpoint, half_green: Pixels) -> None:
    assert attribute(checkpoint, half_green, JOY, "integrated-gradients").completeness_error < 0.01
