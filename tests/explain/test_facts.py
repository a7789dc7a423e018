from __future__ import annotations

import itertools

import pytest

from app.explain.facts import _box, described
from app.explain.regions import Region
from tests.explain.test_heatmap import explanation, spots


@pytest.mark.parametrize("times", [1, 2, 3])
def test_the_boxes_of_a_picture_of_the_network_s_own_size_are_those_of_its_pixels(times: int) -> None:
    side = 224
    for first, last in itertools.combinations(range(0, side + 1, 7), 2):
        region = Region(first / side, 0.0, last / side, 1.0, share=1.0, raises=True)
        box = _box(region, times * side, side)
        assert (box["left"], box["right"]) == (times * first, times * last)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 2), (2, 900), (640, 480)])
def test_no_box_is_empty_or_outside_however_small_the_picture_is(width: int, height: int) -> None:
    boxes = described(explanation(spots()), ("joy", "sadness"), width, height)["regions"]
    assert [box["effect"] for box in boxes] == ["raises", "lowers"]
    for box in boxes:
        assert 0 <= box["left"] < box["right"] <= width
        assert 0 <= box["top"] < box["bottom"] <= height
