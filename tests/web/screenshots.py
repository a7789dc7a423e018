"""Draws ``docs/page*.png`` and ``docs/card.png``: the pages of a running service, as a browser shows them.

    .venv/dev/bin/python -m tests.web.screenshots http://localhost:8000

Needs Chromium and its driver. The photo comes with scikit-image.
"""

from __future__ import annotations

import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image

from tests.web.browser import Browser, browsing

DOCS = Path(__file__).parents[2] / "docs"
COLOURS = 256  # of a file; a screenshot needs no more, and is a third as large


def main(address: str) -> None:
    """Open each page, do what a visitor does, and keep what is seen."""
    with (
        tempfile.TemporaryDirectory() as folder,
        browsing(f"{address.rstrip('/')}/", Path(folder)) as browser,
    ):
        browser.open(width=1200, height=880)
        show_the_cat(browser)
        keep(browser, "page.png")
        browser.open(width=390, height=844, dark=True)
        browser.look(390, 844, dark=True, touch=True)
        show_the_cat(browser)
        keep(browser, "page_phone.png", whole=True)
        browser.open("card", width=1200, height=880)
        browser.wait_for("#plots svg")
        keep(browser, "card.png", whole=True)


def show_the_cat(browser: Browser) -> None:
    """Choose the sample and wait for its heat map."""
    browser.one("[data-sample=chelsea]").click()
    browser.wait(lambda: browser.seen("#controls"), seconds=120)
    browser.wait(lambda: browser.script("return document.getElementById('map').complete"))
    browser.script("document.activeElement.blur(); scrollTo(0, 0)")


def keep(browser: Browser, name: str, *, whole: bool = False) -> None:
    """Write a screenshot into ``docs/``."""
    shot = Image.open(BytesIO(browser.picture(whole=whole))).convert("RGB")
    palette = shot.quantize(COLOURS, Image.Quantize.FASTOCTREE)  # which keeps rare colours
    few = shot.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    few.save(DOCS / name, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
