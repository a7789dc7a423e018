"""Drawing a relevance map on the picture that it explains."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageChops
from PIL.PngImagePlugin import PngInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from app.engine import Explanation
    from app.picture import Picture

VIEWS: tuple[str, ...] = ("overlay", "heatmap", "dream")

SOFTNESS = 0.03
"""Blur of the map, as a share of its side: a single pixel shows the network's grid, not the picture."""
PEAK = 99.5
"""Percentile of the map's strength that is drawn at full colour, so that one pixel cannot pale the rest."""
NO_EVIDENCE = 0.02
"""A smaller rise of the log-odds is not drawn: stretched to full colour it would be noise."""
DREAM_VISIBLE = 24.0
"""Levels of 255 that the dream's largest changes are drawn with. The dream itself stays too close to the
picture to be seen: a short path is what makes its relevance add up."""
CONTRAST = 1.5
"""Power of the strength that is drawn: above 1, weak evidence steps back behind strong."""
_OPAQUE = 0.8
_MIDDLE = 128
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
    signed = strength(explanation)
    weight = np.abs(signed)[..., None] ** CONTRAST
    ends = np.where(signed[..., None] > 0, _RED, _BLUE)
    if view == "heatmap":
        return _enlarged(_PALE + weight * (ends - _PALE), picture)
    # A grey picture leaves colour to the map alone.
    grey = picture.rgb.convert("L").convert("RGB")
    return Image.composite(_enlarged(ends, picture), grey, _enlarged(255 * _OPAQUE * weight[..., 0], picture))


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
    """Gaussian blur of ``[S, S]``, its border mirrored.

    Pillow's own works on bytes only, and torch's threads here would fight those of the engine for the cores.
    """
    reach = round(3 * sigma)
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    for axis in (0, 1):
        padded = np.pad(picture, [(reach, reach) if a == axis else (0, 0) for a in (0, 1)], mode="symmetric")
        windows = np.lib.stride_tricks.sliding_window_view(padded, len(kernel), axis=axis)
        picture = (windows @ kernel).astype(np.float32)
    return picture


def _dream(picture: Picture, explanation: Explanation) -> Image.Image:
    """The dream's change, strengthened until it can be seen, on the picture at its full sharpness."""
    change = explanation.dreamed - explanation.original
    largest = float(np.percentile(np.abs(change), PEAK))
    if largest > 0:
        change *= DREAM_VISIBLE / largest
    lifted = _enlarged(change.transpose(1, 2, 0) + _MIDDLE, picture)  # bytes have no sign
    return ImageChops.add(picture.rgb, lifted, scale=1, offset=-_MIDDLE)


def _enlarged(pixels: NDArray[np.floating], picture: Picture) -> Image.Image:
    """A drawing of the network's size as bytes, at the picture's size.

    What is as large as the picture is Pillow's, in bytes: as floating point, a picture of 50 megapixels would
    take gigabytes.
    """
    small = Image.fromarray(np.rint(pixels).clip(0, 255).astype(np.uint8))
    return small.resize(picture.rgb.size, Image.Resampling.BICUBIC)
