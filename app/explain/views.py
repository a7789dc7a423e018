"""The views of an explanation that can be asked for, with their captions, legend and contact sheet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from app.explain.heatmap import (
    CONTRAST,
    DEFAULT_PALETTE,
    OPACITY,
    Palette,
    dream,
    has_evidence,
    heatmap,
    overlay,
    peak,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.engine import Explanation
    from app.picture import Picture

VIEWS: dict[str, str] = {
    "overlay": "the heat map on the picture, which is turned grey",
    "heatmap": "the heat map alone",
    "dream": "the picture after gradient ascent, its change made large enough to see",
    "pair": "the picture and the overlay side by side",
    "sheet": "the overlays of all emotions, the most probable first, in one scale of colours: a pale one has "
    "little evidence; costs one explanation for each",
}
"""What each shows, by the name that a request asks for; the first is the default."""

CELL = 480
"""Longest side in pixels of a picture in a contact sheet."""
COLUMNS = 4
_INK, _PAPER = (20, 20, 20), (255, 255, 255)
_SMALLEST_TEXT = 12
_WIDEST = 1000  # text grows with a picture up to this width; beyond it, it is large enough
_MARGIN = 0.3  # around a line of text, of its height
_FONT = Path(__file__).with_name("font") / "DejaVuSans.ttf"  # Pillow's own has no letter beyond ASCII
_SMALL = 0.0995  # shares below it have a digit more, as on the page
_GREY = 128  # of the picture that the legend of an overlay is laid on


@dataclass(frozen=True)
class Style:
    """How a view is drawn.

    Attributes:
        palette: of the map.
        opacity: of the strongest evidence in an overlay, 0 to 1.
        legend: whether a strip below says the emotion, its probability and what the colours mean, if any.
        max_side: to which the picture is reduced before it is drawn on; None leaves its own size.
    """

    palette: Palette = DEFAULT_PALETTE
    opacity: float = OPACITY
    legend: bool = False
    max_side: int | None = None


def draw(
    picture: Picture, explanations: Sequence[Explanation], names: Sequence[str], view: str, style: Style
) -> Image.Image:
    """An RGB picture. Of the upload's own size, unless it is reduced, is a pair or a sheet, or has a legend.

    Args:
        picture: what was uploaded, upright.
        explanations: of that picture; for a sheet one an emotion, else one.
        names: of the emotions, by the explanations' index.
        view: one of `VIEWS`.
        style: how.

    Raises:
        ValueError: there is no such view.
    """
    if view not in VIEWS:
        raise ValueError(f"there is no view {view!r}; there are {', '.join(VIEWS)}")
    first = explanations[0]
    if style.max_side is not None:
        picture = picture.within(style.max_side)
    before = [picture.rgb] if view == "pair" else []
    if view == "sheet":
        drawn = _sheet(picture, explanations, names, style)
    elif view == "heatmap":
        drawn = heatmap(picture, first, style.palette)
    elif view == "dream":
        drawn = dream(picture, first)
    else:
        drawn = overlay(picture, first, style.palette, style.opacity)
    width = drawn.width * (1 + len(before))
    lines = []
    if style.legend:
        lines = [] if view == "sheet" else [_strip(width, caption_of(first, names))]
        if view != "dream":  # whose colours are the picture's own
            opacity = None if view == "heatmap" else style.opacity
            lines.append(_colours(width, style.palette, opacity))
    return _arranged([*before, drawn], lines)


def caption_of(explanation: Explanation, names: Sequence[str]) -> str:
    """The emotion and its probability, or the layer, and whether there is anything to see."""
    probability = explanation.prediction.probabilities[explanation.emotion]
    found = "" if has_evidence(explanation) else ": no evidence"
    shown = f"{names[explanation.emotion]} {probability:{'.1%' if probability < _SMALL else '.0%'}}"
    return f"{explanation.layer or shown}{found}"


def _sheet(
    picture: Picture, explanations: Sequence[Explanation], names: Sequence[str], style: Style
) -> Image.Image:
    """Small overlays in rows, each with its caption."""
    small = picture.within(CELL)
    cells = []
    full = max(peak(each) for each in explanations)
    for explanation in explanations:
        drawn = overlay(small, explanation, style.palette, style.opacity, full=full)
        # A sheet is looked at as a whole, so each cell is seen small and its caption must be large.
        caption = _strip(drawn.width, caption_of(explanation, names), height=_text_height(2 * drawn.width))
        cells.append(_arranged([drawn], [caption]))
    columns = min(COLUMNS, len(cells))
    width, height = cells[0].size
    gap = max(2, width // 50)
    rows = math.ceil(len(cells) / columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), _PAPER)
    for index, cell in enumerate(cells):
        sheet.paste(cell, (index % columns * (width + gap), index // columns * (height + gap)))
    return sheet


def _colours(width: int, palette: Palette, opacity: float | None) -> Image.Image:
    """A strip: a bar of the colours of a map, or of one laid on grey, between the words for its ends."""
    signed = np.linspace(-1, 1, max(2, width // 2), dtype=np.float32)[None]
    ramp = palette.colours(signed)
    if opacity is not None:
        laid = opacity * np.abs(signed)[..., None] ** CONTRAST
        ramp = (_GREY + laid * (palette.colours(np.sign(signed)) - _GREY)).astype(np.float32)
    height = _text_height(width)
    bar = Image.fromarray(np.rint(ramp).astype(np.uint8)).resize((max(1, width // 2), height))
    words = _strip(width, "lowers it", "raises it")
    words.paste(bar, ((width - bar.width) // 2, (words.height - height) // 2))
    return words


def _strip(width: int, left: str, right: str = "", *, height: int | None = None) -> Image.Image:
    """A line of text on white, as wide as asked; too long a text is made smaller."""
    height = _text_height(width) if height is None else height
    room = width if not right else width // 4
    size = height
    while size > 1 and max(_text_width(text, size) for text in (left, right)) > room - height // 3:
        size -= 1
    font = _font(size)
    strip = Image.new("RGB", (width, round(height * (1 + 2 * _MARGIN))), _PAPER)
    pen = ImageDraw.Draw(strip)
    middle = strip.height // 2
    pen.text((height // 6, middle), left, _INK, font, anchor="lm")
    pen.text((width - height // 6, middle), right, _INK, font, anchor="rm")
    return strip


def _text_height(width: int) -> int:
    return max(_SMALLEST_TEXT, min(width, _WIDEST) // 28)


def _text_width(text: str, size: int) -> float:
    return _font(size).getlength(text)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_FONT, size)


def _arranged(row: Sequence[Image.Image], lines: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one height beside each other, and lines below; on one canvas, as each may be large."""
    if len(row) == 1 and not lines:
        return row[0]
    size = (sum(each.width for each in row), row[0].height + sum(line.height for line in lines))
    canvas = Image.new("RGB", size, _PAPER)
    left = 0
    for each in row:
        canvas.paste(each, (left, 0))
        left += each.width
    top = row[0].height
    for line in lines:
        canvas.paste(line, (0, top))
        top += line.height
    return canvas
