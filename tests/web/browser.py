"""A headless Chromium that remembers what it asked for and what it complained of."""

from __future__ import annotations

import base64
import json
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from selenium.webdriver.remote.webelement import WebElement

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
PATIENCE = 60.0
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-prefers-reduced-motion",
)


class Browser:
    """A window on one service.

    Attributes:
        driver: selenium's.
        base: the service's address, with a slash at the end.
        downloads: folder in which saved files land.
    """

    def __init__(self, driver: webdriver.Chrome, base: str, downloads: Path) -> None:
        self.driver = driver
        self.base = base
        self.downloads = downloads

    def open(self, path: str = "", *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a page anew in a window of this size and these colours."""
        self.look(width, height, dark=dark)
        self.driver.get(self.base + path)

    def look(self, width: int, height: int, *, dark: bool = False, touch: bool = False) -> None:
        """Change the window's size and colours, or make it a phone."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        self.command("Emulation.setDeviceMetricsOverride", **metrics)
        self.command("Emulation.setTouchEmulationEnabled", enabled=touch)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])

    def command(self, name: str, **arguments: Any) -> Any:
        """A command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, arguments)

    def one(self, selector: str) -> WebElement:
        """The first element that a CSS selector finds."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        """Every element that a CSS selector finds."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def seen(self, selector: str) -> bool:
        """Whether there is such an element and it is visible."""
        return any(element.is_displayed() for element in self.all(selector))

    def wait(self, condition: Callable[[], object], *, seconds: float = PATIENCE) -> None:
        """Poll until it is true."""
        WebDriverWait(self.driver, seconds, poll_frequency=0.05).until(lambda _: condition())

    def wait_for(self, selector: str) -> WebElement:
        """Wait until an element is visible."""
        self.wait(lambda: self.seen(selector))
        return self.one(selector)

    def script(self, text: str, *arguments: Any) -> Any:
        """What JavaScript returns."""
        return self.driver.execute_script(text, *arguments)

    def picture(self, *, whole: bool = False) -> bytes:
        """A PNG of what is seen, or of the whole page."""
        shot = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])

    def complaints(self) -> list[str]:
        """What the console said since it was last asked, except that a request was refused."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries if entry["source"] != "network"]

    def hosts(self) -> set[str]:
        """Beginnings of the addresses that the pages asked for since it was last asked."""
        entries = self.driver.get_log("performance")  # type: ignore[no-untyped-call]
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        asked = [
            m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"
        ]
        return {
            "/".join(url.removeprefix("blob:").split("/")[:3])
            for url in asked
            if url.startswith(("http", "blob:"))
        }


@contextmanager
def browsing(base: str, folder: Path) -> Iterator[Browser]:
    """A browser with a profile and downloads of its own below a folder."""
    assert CHROMIUM is not None
    assert DRIVER is not None
    downloads = folder / "downloads"
    downloads.mkdir()
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*_FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(DRIVER))
    try:
        browser = Browser(driver, base, downloads)
        browser.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        yield browser
    finally:
        driver.quit()
