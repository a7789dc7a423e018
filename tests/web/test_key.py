"""The page of a service that asks for a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from selenium.webdriver import ActionChains, Keys

from app.keys import line_of, new_key
from tests.api.serving import service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from app.settings import Settings
    from tests.web.browser import Browser

KEY = new_key()


@pytest.fixture
def locked(window: Browser, base_settings: Settings, tmp_path: Path) -> Iterator[Browser]:
    (tmp_path / "keys").write_text(line_of("alice", KEY), "utf-8")
    with service(base_settings.model_copy(update={"keys_file": tmp_path / "keys"})) as client:
        base, window.base = window.base, f"{client.base_url}/"
        window.open()
        yield window
        window.complaints()  # the browser tells of each 401
        window.hosts()
        window.base = base


def give(page: Browser, key: str) -> None:
    page.wait_for("dialog[open] #key").send_keys(key)
    page.one("#key-send").click()


def test_the_page_asks_for_the_key_once(locked: Browser, photo: Path) -> None:
    locked.one("#file").send_keys(str(photo))
    give(locked, "de_wrong")
    locked.wait(lambda: locked.all("#key-refused") and "not known" in locked.one("#key-refused").text)
    give(locked, KEY)
    locked.wait_for("#dominant")
    locked.wait(lambda: "joy" in locked.one("#dominant").text.lower())
    assert not locked.all("dialog")
    locked.open()  # the tab remembers
    locked.one("#file").send_keys(str(photo))
    locked.wait(lambda: locked.seen("#result") and "joy" in locked.one("#dominant").text.lower())
    assert locked.script("return [localStorage.length, document.cookie]") == [0, ""]
    locked.script("sessionStorage.clear()")


def test_what_is_done_in_the_dialog_does_not_reach_the_page(locked: Browser, photo: Path) -> None:
    locked.script("sessionStorage.clear()")
    locked.one("#file").send_keys(str(photo))
    locked.wait_for("dialog[open] #key")
    assert locked.one("dialog").get_attribute("aria-label")
    locked.script(
        "document.querySelector('#key').dispatchEvent("
        "new ClipboardEvent('paste', {bubbles: true, clipboardData: new DataTransfer()}))"
    )
    assert not locked.seen("#refusal")
    ActionChains(locked.driver).send_keys(Keys.ESCAPE).perform()  # which closes it
    locked.wait(lambda: locked.seen("#refusal"))
    assert "asks for a key" in locked.one("#refused").text


def test_a_visitor_without_a_key_is_told_why(locked: Browser, photo: Path) -> None:
    locked.script("sessionStorage.clear()")
    locked.one("#file").send_keys(str(photo))
    locked.wait_for("dialog[open] #key-cancel").click()
    locked.wait(lambda: locked.seen("#refusal"))
    assert "asks for a key" in locked.one("#refused").text
