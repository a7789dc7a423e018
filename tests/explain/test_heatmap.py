from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from app.engine import Explanation, Prediction
from app.explain.heatmap import PALETTES, dream, heatmap, overlay, strength, to_png
from app.picture import Picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

S = 60
SIZE = (200, 120)
PICTURE = Picture(Image.new("RGB", SIZE, (90, 140, 60)), "PNG", *SIZE)


def explanation(relevance: NDArray[np.float32], rise: float | None = None) -> Explanation:
    original = np.full((3, S, S), 100, np.uint8)
    return Explanation(
        emotion=0,
        prediction=Prediction(np.array([0.6, 0.4]), 0.0, 0.0),
        relevance=relevance,
        dreamed=original.astype(np.float32) + np.linspace(-2, 2, S, dtype=np.float32),
        original=original,
        rise=float(relevance.sum()) if rise is None else rise,
        completeness_error=0.0,
        imbalance=0.0,
        steps=1,
        queue_seconds=0.0,
        infer_seconds=0.0,
    )


def spots() -> NDArray[np.float32]:
    """Evidence for the emotion at the top left, and half as much against it at the bottom right."""
    relevance = np.zeros((S, S), np.float32)
    relevance[8:16, 8:16] = 1.0
    relevance[44:52, 44:52] = -0.5
    return relevance


@pytest.mark.parametrize("name", PALETTES)
def test_what_raises_and_what_lowers_differ_also_for_the_colour_blind(name: str) -> None:
    """Seen by the two kinds of cones that people with red-green blindness have: blue, and red with green."""
    palette = PALETTES[name]
    lowers, raises = (np.array(each, float) for each in (palette.lowers, palette.raises))
    assert abs(lowers[2] - raises[2]) + abs(lowers[:2].mean() - raises[:2].mean()) > 50


def test_cividis_can_be_told_apart_in_grey() -> None:
    drawn = heatmap(PICTURE, explanation(spots()), PALETTES["cividis"]).convert("L")
    scale = np.array(SIZE) / S
    raises, lowers, nothing = (
        np.asarray(drawn)[int(at * scale[1]), int(at * scale[0])] for at in (12, 48, 30)
    )
    assert int(lowers) + 15 < int(nothing) < int(raises) - 50


def test_opacity_is_that_of_the_strongest_evidence() -> None:
    pixels = [np.asarray(overlay(PICTURE, explanation(spots()), opacity=each)) for each in (0.2, 1.0)]
    y, x = (12 * np.array(SIZE[::-1]) / S).astype(int)
    faint, full = (each[y, x].astype(int) for each in pixels)
    assert full[0] - full[2] > 100
    assert 0 < faint[0] - faint[2] < 50


def test_red_raises_and_blue_lowers_where_the_evidence_is() -> None:
    pixels = np.asarray(heatmap(PICTURE, explanation(spots()))).astype(int)
    scale = np.array(SIZE) / S
    x, y = (12 * scale).astype(int)
    red, _, blue = pixels[y, x]
    assert red > blue + 80
    x, y = (48 * scale).astype(int)
    red, _, blue = pixels[y, x]
    assert blue > red + 40
    corner = pixels[-1, 0]
    assert corner.min() > 240  # nothing there


def test_the_overlay_shows_the_picture_where_there_is_no_evidence() -> None:
    pixels = np.asarray(overlay(PICTURE, explanation(spots()))).astype(int)
    grey = np.asarray(PICTURE.rgb.convert("L"))[0, 0]
    np.testing.assert_allclose(pixels[-1, 0], grey, atol=1)


def test_a_flat_map_says_no_evidence_instead_of_noise() -> None:
    noise = np.random.default_rng(0).normal(size=(S, S)).astype(np.float32) * 1e-6
    assert not strength(explanation(noise)).any()
    assert np.asarray(heatmap(PICTURE, explanation(noise))).min() == 247
    assert not strength(explanation(np.zeros((S, S), np.float32), rise=1.0)).any()


def test_the_scale_of_the_map_does_not_matter_but_its_sign_does() -> None:
    np.testing.assert_allclose(strength(explanation(spots())), strength(explanation(spots() * 50)), atol=1e-5)
    assert strength(explanation(spots())).max() == 1
    assert strength(explanation(spots())).min() < 0


def test_the_dream_is_strong_enough_to_be_seen_and_keeps_the_picture() -> None:
    before = np.asarray(PICTURE.rgb).astype(int)
    change = np.asarray(dream(PICTURE, explanation(spots()))).astype(int) - before
    assert 20 <= np.abs(change).max() <= 30
    assert np.abs(change[:, 95:105]).max() <= 3  # where the dream changed nothing


def test_a_png_carries_its_notes_and_nothing_else() -> None:
    picture = overlay(PICTURE, explanation(spots()))
    read = Image.open(
        io.BytesIO(to_png(picture, {"DeepEmotion-Emotion": "свет", "DeepEmotion-Model": "m@1"}))
    )
    read.load()
    assert read.format == "PNG"
    assert read.info == {"DeepEmotion-Emotion": "свет", "DeepEmotion-Model": "m@1"}
    np.testing.assert_array_equal(np.asarray(read), np.asarray(picture))
