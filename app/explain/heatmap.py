"""Drawing a relevance map on the picture that it explains."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageChops
from PIL.PngImagePlugin import PngInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from app.engine import Explanation
    from app.picture import Picture

SOFTNESS = 0.05
"""Blur of the map, as a share of its side: a single pixel shows the network's grid, not the picture."""
PEAK = 99.5
"""Percentile of the map's strength that is drawn at full colour, so that one pixel cannot pale the rest."""
NO_EVIDENCE = 0.02
"""A map that moves the log-odds by less, for and against together, is not drawn: stretched to full colour it
would be noise."""
DREAM_VISIBLE = 24.0
"""Levels of 255 that the dream's largest changes are drawn with. The dream itself stays too close to the
picture to be seen: a short path is what makes its relevance add up."""
CONTRAST = 1.5
"""Power of the strength that is drawn: above 1, weak evidence steps back behind strong."""
OPACITY = 0.8
"""Of the strongest evidence in an overlay, unless another is asked for."""
_MIDDLE = 128
_PNG_COMPRESSION = 2  # of 9; a photograph gets 4 % smaller with 3, and waits half as long again for it


@dataclass(frozen=True)
class Palette:
    """Three colours of 255: of what lowers the emotion, of no evidence, and of what raises it."""

    lowers: tuple[int, int, int]
    neutral: tuple[int, int, int]
    raises: tuple[int, int, int]

    def colours(self, signed: NDArray[np.float32]) -> NDArray[np.float32]:
        """``[..., 3]`` for strengths ``[...]`` in -1..1."""
        lowers, neutral, raises = (
            np.array(each, np.float32) for each in (self.lowers, self.neutral, self.raises)
        )
        weight = np.abs(signed)[..., None] ** CONTRAST
        return np.asarray(neutral + weight * (np.where(signed[..., None] > 0, raises, lowers) - neutral))


PALETTES: dict[str, Palette] = {
    # ColorBrewer's RdBu of nine, which colour-blind people can tell apart too. Its blue of eleven cannot
    # be seen on a dark photo.
    "red-blue": Palette((33, 102, 172), (247, 247, 247), (178, 24, 43)),
    # The ends of cividis: what lowers is dark, what raises is light; a map alone can be told apart in grey.
    "cividis": Palette((0, 32, 77), (124, 123, 120), (255, 234, 70)),
}
"""By the name that a request asks for; the first is the default."""
DEFAULT_PALETTE = PALETTES["red-blue"]


def overlay(
    picture: Picture,
    explanation: Explanation,
    palette: Palette = DEFAULT_PALETTE,
    opacity: float = OPACITY,
    *,
    full: float | None = None,
) -> Image.Image:
    """The map on the picture, at the picture's own size.

    Args:
        picture: what was uploaded, upright.
        explanation: of that picture.
        palette: of the map.
        opacity: of the strongest evidence, 0 to 1.
        full: evidence of a pixel from which the colour is full; by default the map's own `peak`.
    """
    signed = strength(explanation, full)
    ends = palette.colours(np.sign(signed))
    opaque = 255 * opacity * np.abs(signed) ** CONTRAST
    # A grey picture leaves colour to the map alone.
    drawn = picture.rgb.convert("L").convert("RGB")
    drawn.paste(_enlarged(ends, picture), mask=_enlarged(opaque, picture))
    return drawn


def heatmap(picture: Picture, explanation: Explanation, palette: Palette = DEFAULT_PALETTE) -> Image.Image:
    """The map alone, at the picture's own size."""
    return _enlarged(palette.colours(strength(explanation)), picture)


def dream(picture: Picture, explanation: Explanation) -> Image.Image:
    """The dream's change, strengthened until it can be seen, on the picture at its full sharpness."""
    change = explanation.dreamed - explanation.original
    largest = float(np.percentile(np.abs(change), PEAK))
    if largest > 0:
        change *= DREAM_VISIBLE / largest
    lifted = _enlarged(change.transpose(1, 2, 0) + _MIDDLE, picture)  # bytes have no sign
    return ImageChops.add(picture.rgb, lifted, scale=1, offset=-_MIDDLE)


def has_evidence(explanation: Explanation) -> bool:
    """Whether there is anything to draw; a map of less would be stretched noise."""
    return evidence(explanation) >= NO_EVIDENCE


def evidence(explanation: Explanation) -> float:
    """By how much the parts of the picture move the log-odds, those for and those against added up.

    The rise cannot tell: parts that speak for the emotion and parts that speak against it cancel in it.
    """
    return float(np.abs(softened(explanation.relevance)).sum())


def softened(relevance: NDArray[np.float32]) -> NDArray[np.float32]:
    """The map ``[S, S]`` as it is drawn, but for its scale."""
    return _blurred(relevance, SOFTNESS * relevance.shape[0])


def peak(explanation: Explanation) -> float:
    """Evidence of a pixel from which a map is drawn at full colour."""
    return _peak_of(softened(explanation.relevance))


def strength(explanation: Explanation, full: float | None = None) -> NDArray[np.float32]:
    """The map for drawing, ``[S, S]`` in -1..1; all zero where there is no evidence.

    Args:
        explanation: whose map it is.
        full: evidence of a pixel that becomes 1; by default the map's own `peak`.
    """
    smooth = softened(explanation.relevance)
    if np.abs(smooth).sum() < NO_EVIDENCE:
        return np.zeros_like(smooth)
    full = _peak_of(smooth) if full is None else full
    return np.clip(smooth / full, -1, 1) if full > 0 else np.zeros_like(smooth)


def _peak_of(smooth: NDArray[np.float32]) -> float:
    return float(np.percentile(np.abs(smooth), PEAK))


def to_png(image: Image.Image, notes: Mapping[str, str]) -> bytes:
    """Encode as PNG with the notes as text chunks and nothing else that is not pixels."""
    text = PngInfo()
    for key, value in notes.items():
        text.add_itxt(key, value)
    out = io.BytesIO()
    image.save(out, "PNG", pnginfo=text, compress_level=_PNG_COMPRESSION)
    return out.getvalue()


def _blurred(picture: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Gaussian blur of ``[S, S]``, its border mirrored; by its spectrum, which a Gaussian has in closed form.

    Pillow's own works on bytes only, and the threads of torch, or of a matrix product of numpy, would fight
    those of the engine for the cores.
    """
    reach = round(3 * sigma)
    padded = np.pad(picture, reach, mode="symmetric")
    rows, columns = np.fft.fftfreq(padded.shape[0])[:, None], np.fft.rfftfreq(padded.shape[1])
    gaussian = np.exp(-2 * (np.pi * sigma) ** 2 * (rows**2 + columns**2))
    blurred = np.fft.irfft2(np.fft.rfft2(padded) * gaussian, s=padded.shape)
    side = picture.shape[0]
    return blurred[reach : reach + side, reach : reach + side].astype(np.float32)


def _enlarged(pixels: NDArray[np.floating], picture: Picture) -> Image.Image:
    """A drawing of the network's size as bytes, at the picture's size.

    What is as large as the picture is Pillow's, in bytes: as floating point, a picture of 50 megapixels would
    take gigabytes.
    """
    small = Image.fromarray(np.rint(pixels).clip(0, 255).astype(np.uint8))
    return small.resize(picture.rgb.size, Image.Resampling.BICUBIC)
