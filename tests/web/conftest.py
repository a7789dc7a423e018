from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.api.serving import service
from tests.pictures import GREEN, encoded, noise, plain
from tests.web.browser import CHROMIUM, DRIVER, Browser, browsing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from app.settings import Settings


def _needs_browser() -> None:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs a browser: apt-get install chromium chromium-driver")


@pytest.fixture(scope="session")
def window(client: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests, on the tiny service that the other tests use too."""
    _needs_browser()
    with browsing(f"{client.base_url}/", tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def browser(window: Browser) -> Iterator[Browser]:
    """The page at ``/``, just opened. Fails if anything complained or asked another host."""
    base = window.base
    window.complaints()
    window.hosts()
    window.open()
    yield window
    assert window.complaints() == []
    # The first page's last request may be told of only after a test has gone on to another service of ours.
    assert window.hosts() <= {base.rstrip("/"), window.base.rstrip("/")}
    window.base = base


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture that is green all over, so that the tiny network feels joy."""
    path = tmp_path_factory.mktemp("photos") / "meadow.png"
    path.write_bytes(plain(GREEN, (320, 240)))
    return path


@pytest.fixture(scope="session")
def narrow(base_settings: Settings, slow_checkpoint: Path) -> Iterator[httpx.Client]:
    """A slow service that takes little: one explanation at a time and small files only."""
    _needs_browser()
    limits = {
        "checkpoint": slow_checkpoint,
        "max_batch": 1,
        "max_explanations": 1,
        "running_explanations": 1,
        "max_upload_bytes": 200_000,
    }
    with service(base_settings.model_copy(update=limits)) as shared:
        yield shared


@pytest.fixture
def slow(browser: Browser, narrow: httpx.Client) -> Browser:
    """The page of the slow service, just opened."""
    browser.hosts()
    browser.base = f"{narrow.base_url}/"
    browser.open()
    return browser


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that the slow service does not take."""
    path = tmp_path_factory.mktemp("large") / "large.png"
    path.write_bytes(encoded(noise((400, 300))))
    return path
