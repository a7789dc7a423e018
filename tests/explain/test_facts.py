from __future__ import annotations

import pytest

from app.explain.facts import described
from tests.explain.test_heatmap import explanation, spots


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 2), (2, 900), (640, 480)])
def test_no_box_is_empty_or_outside_however_small_the_picture_is(width: int, height: int) -> None:
    boxes = described(explanation(spots()), ("joy", "sadness"), width, height)["regions"]
    assert [box["effect"] for box in boxes] == ["raises", "lowers"]
    for box in boxes:
        assert 0 <= box["left"] < box["right"] <= width
        assert 0 <= box["top"] < box["bottom"] <= height
