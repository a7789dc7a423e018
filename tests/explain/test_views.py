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


@pytest.mark.parametrize(("view", "expected"), [("overlay", (50, 30)), ("pair", (100, 30))])
def test_a_picture_is_reduced_before_it_is_drawn_on(view: str, expected: tuple[int, int]) -> None:
    picture = Picture(Image.new("RGB", (200, 120)), "PNG", 200, 120)
    drawn = draw(picture, [explanation(spots())], NAMES, view, Style(max_side=50))
    assert drawn.size == expected
    whole = draw(picture, [explanation(spots())], NAMES, view, Style(max_side=200))
    assert whole.tobytes() == draw(picture, [explanation(spots())], NAMES, view, Style()).tobytes()


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


@pytest.mark.parametrize("view", [view for view in VIEWS if view != "dream"])
@pytest.mark.parametrize("palette", PALETTES)
def test_a_legend_is_added_below_and_changes_nothing_above(view: str, palette: str) -> None:
    bare = draw(PICTURE, all_of_them(), NAMES, view, Style(PALETTES[palette], 1.0))
    drawn = draw(PICTURE, all_of_them(), NAMES, view, Style(PALETTES[palette], 1.0, legend=True))
    assert drawn.width == bare.width
    assert drawn.height > bare.height + 12
    assert np.array_equal(np.asarray(drawn.crop((0, 0, *bare.size))), np.asarray(bare))
    strip = np.asarray(drawn.crop((0, bare.height, *drawn.size)))
    assert strip.min() < 60  # ink
    middle = strip.reshape(-1, 3)
    for end in (PALETTES[palette].raises, PALETTES[palette].lowers):
        assert np.abs(middle.astype(int) - end).sum(axis=1).min() < 30


def saturation(pixels: Image.Image) -> int:
    """Of the most colourful pixel, 0 to 255."""
    levels = np.asarray(pixels).astype(int)
    return int((levels.max(axis=2) - levels.min(axis=2)).max())


def legend_of(view: str, style: Style) -> Image.Image:
    bare = draw(PICTURE, [explanation(spots())], NAMES, view, style)
    drawn = draw(PICTURE, [explanation(spots())], NAMES, view, replace(style, legend=True))
    return drawn.crop((0, bare.height, *drawn.size))


def test_the_legend_of_a_dream_has_no_colours_since_none_are_in_it() -> None:
    assert saturation(legend_of("dream", Style())) == 0
    assert saturation(legend_of("heatmap", Style())) > 100


def test_the_legend_of_an_overlay_is_as_pale_as_the_overlay() -> None:
    pale, full = (saturation(legend_of("overlay", Style(opacity=each))) for each in (0.3, 1.0))
    assert pale < full / 2
    drawn = draw(PICTURE, [explanation(spots())], NAMES, "overlay", Style(opacity=0.3))
    assert abs(saturation(drawn) - pale) < 12


def test_the_cells_of_a_sheet_share_one_scale_of_colours() -> None:
    strong, weak = all_of_them()[:2]
    weak = replace(weak, relevance=spots() / np.float32(4))
    sheet = draw(PICTURE, [strong, weak], NAMES, "sheet", Style())
    left, right = (sheet.crop((x, 0, x + SIZE[0], SIZE[1])) for x in (0, sheet.width - SIZE[0]))
    assert saturation(right) < saturation(left) / 3
    assert saturation(right) > 0


@pytest.mark.parametrize("name", ["dégoût", "ярость", "hüzün"])
def test_a_name_of_letters_beyond_ascii_is_written(name: str) -> None:
    unknown = draw(
        PICTURE, [explanation(spots())], ("\U0010ffff" * len(name),), "overlay", Style(legend=True)
    )
    drawn = draw(PICTURE, [explanation(spots())], (name,), "overlay", Style(legend=True))
    other = draw(PICTURE, [explanation(spots())], (name[::-1],), "overlay", Style(legend=True))
    assert not np.array_equal(np.asarray(drawn), np.asarray(unknown))
    assert not np.array_equal(np.asarray(drawn), np.asarray(other))


def test_a_caption_says_the_emotion_its_probability_and_when_there_is_nothing_to_see() -> None:
    assert caption_of(explanation(spots()), NAMES) == "joy 60%"
    rare = replace(explanation(spots()), prediction=Prediction(np.array([0.911, 0.089]), 0.0, 0.0), emotion=1)
    assert caption_of(rare, ("fear", "joy")) == "joy 8.9%"
    assert caption_of(explanation(spots() * 1e-9), NAMES) == "joy 60%: no evidence"


def test_an_unknown_view_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="overlay, heatmap, dream, pair, sheet"):
        draw(PICTURE, [explanation(spots())], NAMES, "x-ray", Style())
