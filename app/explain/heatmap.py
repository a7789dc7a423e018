"""Drawing a relevance map on the picture that it explains."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from app.engine import Explanation
    from app.picture import Picture

VIEWS: tuple[str, ...] = ("overlay", "heatmap", "dream")

SOFTNESS = 0.03
"""Blur of the map, as a share of its side: single pixels are the network's grid, not the picture's content."""
PEAK = 99.5
"""Percentile of the map's strength that is drawn at full colour, so that one pixel cannot pale the rest."""
NO_EVIDENCE = 0.02
"""A rise of the log-odds below this is not drawn: stretched to full colour it would be noise."""
_OPAQUE = 0.7
_PNG_COMPRESSION = 3  # of 9; a photograph gains little from more, and waits long for it

# ColorBrewer's RdBu, which colour-blind people can tell apart too: blue lowers, red raises.
_BLUE, _PALE, _RED = np.array([(5, 48, 97), (247, 247, 247), (178, 24, 43)], np.float32)


def draw(picture: Picture, explanation: Explanation, view: str) -> Image.Image:
    """An RGB picture of the given picture's own size.

    Args:
        picture: what was uploaded, upright.
        explanation: of that picture.
        view: ``overlay`` draws the map on the picture, ``heatmap`` the map alone, ``dream`` what the picture
            becomes when its emotion is strengthened.

    Raises:
        ValueError: there is no such view.
    """
    if view not in VIEWS:
        raise ValueError(f"there is no view {view!r}; there are {', '.join(VIEWS)}")
    if view == "dream":
        return _dream(picture, explanation)
    drawn = Image.fromarray(strength(explanation)).resize(picture.rgb.size, Image.Resampling.BICUBIC)
    signed = np.clip(np.asarray(drawn, dtype=np.float32), -1, 1)
    ends = np.where(signed[..., None] > 0, _RED, _BLUE)
    weight = np.abs(signed)[..., None]
    if view == "heatmap":
        return _to_image(_PALE + weight * (ends - _PALE))
    # A grey picture leaves colour to the map alone.
    grey = np.asarray(picture.rgb.convert("L"), dtype=np.float32)[..., None]
    return _to_image(grey + _OPAQUE * weight * (ends - grey))


def strength(explanation: Explanation) -> NDArray[np.float32]:
    """The map for drawing, ``[S, S]`` in -1..1; all zero where there is no evidence."""
    relevance = explanation.relevance
    if abs(explanation.rise) < NO_EVIDENCE:
        return np.zeros_like(relevance)
    smooth = _blurred(relevance, SOFTNESS * relevance.shape[0])
    peak = float(np.percentile(np.abs(smooth), PEAK))
    return np.clip(smooth / peak, -1, 1) if peak > 0 else np.zeros_like(relevance)


def to_png(image: Image.Image, notes: Mapping[str, str]) -> bytes:
    """Encode as PNG with the notes as text chunks and nothing else that is not pixels."""
    text = PngInfo()
    for key, value in notes.items():
        text.add_itxt(key, value)
    out = io.BytesIO()
    image.save(out, "PNG", pnginfo=text, compress_level=_PNG_COMPRESSION)
    return out.getvalue()


def _blurred(picture: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Gaussian blur of ``[S, S]``, its border mirrored. Pillow's own works on bytes only."""
    reach = round(3 * sigma)
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    for axis in (0, 1):
        padded = np.pad(picture, [(reach, reach) if a == axis else (0, 0) for a in (0, 1)], mode="symmetric")
        windows = np.lib.stride_tricks.sliding_window_view(padded, len(kernel), axis=axis)
        picture = (windows @ kernel).astype(np.float32)
    return picture


def _dream(picture: Picture, explanation: Explanation) -> Image.Image:
    """The dream's change at the picture's own size, on the picture at its full sharpness."""
    change = explanation.dreamed - explanation.original
    layers = [
        np.asarray(Image.fromarray(layer).resize(picture.rgb.size, Image.Resampling.BICUBIC))
        for layer in change
    ]
    return _to_image(np.asarray(picture.rgb, dtype=np.float32) + np.stack(layers, axis=-1))


def _to_image(pixels: NDArray[np.floating]) -> Image.Image:
    return Image.fromarray(np.rint(pixels).clip(0, 255).astype(np.uint8))
