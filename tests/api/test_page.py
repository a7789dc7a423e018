from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from app.api.page import FOLDER

if TYPE_CHECKING:
    import httpx


def test_the_page_allows_nothing_from_elsewhere(client: httpx.Client) -> None:
    response = client.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_everything_that_the_page_names_is_served(client: httpx.Client) -> None:
    page = client.get("/").text
    named = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert {"web/page.js", "web/style.css", "docs"} <= set(named)
    for name in named:
        assert client.get(f"/{name}").status_code == 200, name


@pytest.mark.parametrize("name", ["index.html", "page.js", "style.css"])
def test_no_part_of_the_page_asks_another_host(name: str) -> None:
    text = (FOLDER / name).read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|//cdn|@import", text)


def test_the_script_finds_every_element_that_it_asks_for() -> None:
    page = (FOLDER / "index.html").read_text("utf-8")
    asked = set(re.findall(r'at\("([^"]+)"\)', (FOLDER / "page.js").read_text("utf-8")))
    assert asked <= set(re.findall(r'id="([^"]+)"', page))


def test_a_path_beside_the_page_is_not_served(client: httpx.Client) -> None:
    assert client.get("/web/../settings.py").status_code == 404
    assert client.get("/web/%2e%2e/settings.py").status_code == 404
