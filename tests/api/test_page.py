from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from app.api.page import FOLDER

if TYPE_CHECKING:
    from pathlib import Path

    import httpx


@pytest.mark.parametrize("path", ["/", "/card"])
def test_the_page_allows_nothing_from_elsewhere(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize(("path", "script"), [("/", "web/page.js"), ("/card", "web/card.js")])
def test_everything_that_the_page_names_is_served(client: httpx.Client, path: str, script: str) -> None:
    page = client.get(path).text
    named = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert {script, "web/style.css", "docs"} <= set(named)
    for name in named:
        assert client.get(f"/{name}").status_code == 200, name


@pytest.mark.parametrize(
    "path", [path for path in FOLDER.iterdir() if path.is_file()], ids=lambda path: path.name
)
def test_no_part_of_the_page_asks_another_host(path: Path) -> None:
    text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|//cdn|@import", text)


@pytest.mark.parametrize(("html", "script"), [("index.html", "page.js"), ("card.html", "card.js")])
def test_the_script_finds_every_element_that_it_asks_for(html: str, script: str) -> None:
    page = (FOLDER / html).read_text("utf-8")
    asked = set(re.findall(r'at\("([^"]+)"\)', (FOLDER / script).read_text("utf-8")))
    assert asked <= set(re.findall(r'id="([^"]+)"', page))


def test_a_path_beside_the_page_is_not_served(client: httpx.Client) -> None:
    assert client.get("/web/../settings.py").status_code == 404
    assert client.get("/web/%2e%2e/settings.py").status_code == 404
