from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from app.engine import Explanation, Prediction
from app.explain.heatmap import PALETTES
from app.explain.views import VIEWS, Style, caption_of, draw
from app.picture import Picture
from tests.explain.test_heatmap import PICTURE, SIZE, explanation, spots

NAMES = ("joy", "sadness", "a rather long name of an emotion", "fear", "awe")


def all_of_them() -> list[Explanation]:
    prediction = Prediction(np.array([0.4, 0.3, 0.2, 0.06, 0.04]), 0.0, 0.0)
    return [replace(explanation(spots()), emotion=index, prediction=prediction) for index in range(5)]


@pytest.mark.parametrize("view", ["overlay", "heatmap", "dream"])
@pytest.mark.parametrize("size", [SIZE, (120, 200), (1, 1), (2000, 30)])
def test_a_view_has_the_pictures_own_size(view: str, size: tuple[int, int]) -> None:
    picture = Picture(Image.new("RGB", size), "PNG", *size)
    drawn = draw(picture, [explanation(spots())], NAMES, view, Style())
    assert (drawn.size, drawn.mode) == (size, "RGB")


def test_a_pair_is_the_picture_and_the_overlay() -> None:
    drawn = draw(PICTURE, [explanation(spots())], NAMES, "pair", Style())
    assert drawn.size == (2 * SIZE[0], SIZE[1])
    assert np.array_equal(np.asarray(drawn.crop((0, 0, *SIZE))), np.asarray(PICTURE.rgb))
    alone = draw(PICTURE, [explanation(spots())], NAMES, "overlay", Style())
    assert np.array_equal(np.asarray(drawn.crop((SIZE[0], 0, 2 * SIZE[0], SIZE[1]))), np.asarray(alone))


@pytest.mark.parametrize("size", [(200, 120), (3000, 2000), (40, 700), (1, 1)])
def test_a_sheet_has_a_cell_for_each_emotion(size: tuple[int, int]) -> None:
    picture = Picture(Image.new("RGB", size, (90, 140, 60)), "PNG", *size)
    drawn = draw(picture, all_of_them(), NAMES, "sheet", Style())
    longest = min(480, max(size))
    columns, rows = 4, 2
    assert columns * longest * size[0] / max(size) <= drawn.width + 4
    assert rows * longest * size[1] / max(size) < drawn.height


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("palette", PALETTES)
def test_a_legend_is_added_below_and_changes_nothing_above(view: str, palette: str) -> None:
    bare = draw(PICTURE, all_of_them(), NAMES, view, Style(PALETTES[palette]))
    drawn = draw(PICTURE, all_of_them(), NAMES, view, Style(PALETTES[palette], legend=True))
    assert drawn.width == bare.width
    assert drawn.height > bare.height + 12
    assert np.array_equal(np.asarray(drawn.crop((0, 0, *bare.size))), np.asarray(bare))
    strip = np.asarray(drawn.crop((0, bare.height, *drawn.size)))
    assert strip.min() < 60  # ink
    middle = strip.reshape(-1, 3)
    for end in (PALETTES[palette].raises, PALETTES[palette].lowers):
        assert np.abs(middle.astype(int) - end).sum(axis=1).min() < 30


def test_a_caption_says_the_emotion_its_probability_and_when_there_is_nothing_to_see() -> None:
    assert caption_of(explanation(spots()), NAMES) == "joy 60%"
    assert caption_of(explanation(spots() * 1e-9), NAMES) == "joy 60%: no evidence"


def test_an_unknown_view_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="overlay, heatmap, dream, pair, sheet"):
        draw(PICTURE, [explanation(spots())], NAMES, "x-ray", Style())
