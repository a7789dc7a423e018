"""Whether everybody can use the pages: axe-core finds no serious violation, wherever they stand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.web.test_page import choose, explained

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.web.browser import Browser

AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text("utf-8")
RUN = "const done = arguments[0]; axe.run().then(done, (error) => done({error: String(error)}));"

LOOKS = pytest.mark.parametrize("width", [360, 1280], ids=["narrow", "wide"])
COLOURS = pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])


def serious(browser: Browser) -> list[str]:
    """What axe-core finds that is serious or critical, with the first element of each."""
    browser.script(AXE)
    found = browser.driver.execute_async_script(RUN)
    assert "error" not in found
    assert len(found["passes"]) > 10  # it looked
    return [
        f"{each['id']}: {each['nodes'][0]['html']} {each['nodes'][0]['failureSummary']}"
        for each in found["violations"]
        if each["impact"] in {"serious", "critical"}
    ]


def nothing_yet(_browser: Browser, _photo: Path) -> None:
    pass


def with_a_map_and_a_sheet(browser: Browser, photo: Path) -> None:
    choose(browser, photo)
    explained(browser, "joy")
    browser.one("#all").click()
    browser.wait_for("#sheet")


def with_a_refusal(browser: Browser, photo: Path) -> None:
    choose(browser, photo.parent / "nothing.png")
    browser.wait_for("#refusal")


def with_notices(browser: Browser, photo: Path) -> None:
    choose(browser, photo)
    explained(browser, "joy")
    for name in ("abstained", "valence", "nothing"):
        browser.script(
            "const e = document.getElementById(arguments[0]); e.hidden = false; e.textContent = 'said'", name
        )


@LOOKS
@COLOURS
@pytest.mark.parametrize("state", [nothing_yet, with_a_map_and_a_sheet, with_a_refusal, with_notices])
def test_the_page(
    browser: Browser, photo: Path, state: Callable[[Browser, Path], None], width: int, *, dark: bool
) -> None:
    (photo.parent / "nothing.png").write_bytes(b"nothing")
    browser.look(width, 900, dark=dark)
    state(browser, photo)
    assert serious(browser) == []
    assert browser.script("return document.documentElement.scrollWidth <= innerWidth")


@LOOKS
@COLOURS
def test_the_card(browser: Browser, width: int, *, dark: bool) -> None:
    browser.open("card", width=width, dark=dark)
    browser.wait_for("#plots svg")
    assert serious(browser) == []
    assert browser.script("return document.documentElement.scrollWidth <= innerWidth")
