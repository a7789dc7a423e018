"""Draws ``docs/results.jpg``: three freely licensed photos, what they evoke, and where.

    .venv/dev/bin/python docs/draw_results.py http://localhost:8000

asks a running service and draws what it answers. The photos come with scikit-image.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import httpx
from PIL import Image, ImageDraw, ImageFont
from skimage import data

PHOTOS = ("chelsea", "astronaut", "coffee")
HEIGHT, GAP, BARS, LONGEST = 240, 12, 330, 250
INK, BAR, STRONG = (30, 30, 30), (170, 190, 215), (178, 24, 43)


def main() -> None:
    """Ask and draw."""
    rows = []
    with httpx.Client(base_url=sys.argv[1], timeout=120) as client:
        for name in PHOTOS:
            photo = Image.fromarray(getattr(data, name)())
            file = io.BytesIO()
            photo.save(file, "PNG")
            answer = client.post("/predict", files={"file": file.getvalue()}).raise_for_status().json()
            wish = {"quality": "quick"}
            overlay = client.post("/explain", params=wish, files={"file": file.getvalue()}).raise_for_status()
            rows.append(row(photo, Image.open(io.BytesIO(overlay.content)), answer))
    sheet = Image.new("RGB", (max(r.width for r in rows), len(rows) * (HEIGHT + GAP) - GAP), "white")
    for index, each in enumerate(rows):
        sheet.paste(each, (0, index * (HEIGHT + GAP)))
    path = Path(__file__).with_name("results.jpg")
    sheet.save(path, quality=88, optimize=True)
    print(path)


def row(photo: Image.Image, overlay: Image.Image, answer: dict[str, dict[str, float]]) -> Image.Image:
    """Photo, bars, overlay, side by side."""
    size = (round(photo.width * HEIGHT / photo.height), HEIGHT)
    widest = 365
    drawn = Image.new("RGB", (2 * widest + BARS + 2 * GAP, HEIGHT), "white")
    drawn.paste(photo.resize(size), ((widest - size[0]) // 2, 0))
    drawn.paste(overlay.convert("RGB").resize(size), (widest + BARS + 2 * GAP + (widest - size[0]) // 2, 0))
    pen, font = ImageDraw.Draw(drawn), ImageFont.load_default(15)
    left, step = widest + GAP, HEIGHT / len(answer["distribution"])
    for index, (emotion, share) in enumerate(answer["distribution"].items()):
        top = index * step
        strongest = emotion == answer["dominant"]["emotion"]
        pen.text((left, top + step / 2), emotion, INK, font, anchor="lm")
        bar = (left + 75, top + 6, left + 75 + share * LONGEST, top + step - 6)
        pen.rectangle(bar, fill=STRONG if strongest else BAR)
        pen.text((left + BARS - 5, top + step / 2), f"{share:.0%}", INK, font, anchor="rm")
    return drawn


if __name__ == "__main__":
    main()
