"""Draws ``docs/explanations.jpg``: three free photos, each with the maps of its two likeliest emotions.

    .venv/dev/bin/python docs/draw_explanations.py http://localhost:8000

asks a running service and draws what it answers. The photos come with scikit-image.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import httpx
from PIL import Image
from skimage import data

PHOTOS = ("chelsea", "astronaut", "coffee")
HEIGHT, GAP = 260, 10


def main() -> None:
    """Ask and draw."""
    with httpx.Client(base_url=sys.argv[1], timeout=300) as client:
        rows = [row(client, Image.fromarray(getattr(data, name)())) for name in PHOTOS]
    sheet = Image.new("RGB", (max(r.width for r in rows), sum(r.height + GAP for r in rows) - GAP), "white")
    top = 0
    for each in rows:
        sheet.paste(each, (0, top))
        top += each.height + GAP
    path = Path(__file__).with_name("explanations.jpg")
    sheet.save(path, quality=88, optimize=True)
    print(path)


def row(client: httpx.Client, photo: Image.Image) -> Image.Image:
    """The photo and two overlays with their legends."""
    small = photo.resize((round(photo.width * HEIGHT / photo.height), HEIGHT), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    photo.save(file, "PNG")
    told = client.post("/predict", files={"file": file.getvalue()}).raise_for_status().json()["distribution"]
    cells = [small]
    for emotion in sorted(told, key=lambda name: -told[name])[:2]:
        wish = {"emotion": emotion, "quality": "thorough", "legend": "true"}
        answer = client.post("/explain", params=wish, files={"file": file.getvalue()}).raise_for_status()
        drawn = Image.open(io.BytesIO(answer.content)).convert("RGB")
        cells.append(drawn.resize((small.width, round(drawn.height * small.width / drawn.width))))
    width = sum(cell.width + GAP for cell in cells) - GAP
    drawn = Image.new("RGB", (width, max(cell.height for cell in cells)), "white")
    left = 0
    for cell in cells:
        drawn.paste(cell, (left, 0))
        left += cell.width + GAP
    return drawn


if __name__ == "__main__":
    main()
