from __future__ import annotations

import numpy as np
import pytest

from app.explain.regions import regions
from tests.explain.test_heatmap import S, explanation, spots


def test_each_spot_is_a_region_with_its_sign_and_the_strongest_comes_first() -> None:
    first, second = regions(explanation(spots()))
    assert (first.raises, second.raises) == (True, False)
    for region, start in ((first, 8), (second, 44)):
        for near, exact in (
            (region.left, start),
            (region.top, start),
            (region.right, start + 8),
            (region.bottom, start + 8),
        ):
            assert near == pytest.approx(exact / S, abs=3 / S)
    assert 0.4 < first.share < 0.7
    assert 0.1 < second.share < first.share
    assert first.share + second.share <= 1


def test_a_flat_map_has_no_regions() -> None:
    assert regions(explanation(np.zeros((S, S), np.float32))) == []
    assert regions(explanation(np.zeros((S, S), np.float32), rise=1.0)) == []


def test_parts_that_touch_only_at_a_corner_are_two() -> None:
    relevance = np.zeros((S, S), np.float32)
    relevance[10:25, 10:25] = relevance[40:55, 40:55] = 1.0
    assert len(regions(explanation(relevance))) == 2
    relevance[24:41, 24:41] = 1.0
    assert len(regions(explanation(relevance))) == 1


def test_a_region_may_fill_the_picture() -> None:
    (region,) = regions(explanation(np.ones((S, S), np.float32)))
    assert (region.left, region.top, region.right, region.bottom) == (0, 0, 1, 1)
    assert region.share == pytest.approx(1)
