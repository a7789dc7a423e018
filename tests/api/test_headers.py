"""What browsers are told, and which other sites may ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from app.api.headers import READABLE, SECURITY
from app.settings import Settings
from tests.api.serving import service
from tests.pictures import plain

if TYPE_CHECKING:
    import httpx

SITE = {"Origin": "https://example.org"}
ASKING = SITE | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


@pytest.mark.parametrize(
    "path", ["/", "/card", "/docs", "/healthz", "/metrics", "/nowhere", "/predict", "/v2"]
)
def test_every_answer_forbids_what_a_browser_need_not_do(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["content-security-policy"].startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/predict", "/explain", "/v1/predict"])
@pytest.mark.parametrize("data", [plain(), b"not a picture"])
def test_no_answer_about_a_picture_is_kept(client: httpx.Client, path: str, data: bytes) -> None:
    headers = client.post(path, content=data).headers
    assert {name: headers[name] for name in SECURITY} == SECURITY


def test_only_files_that_are_the_same_for_everybody_may_be_kept(client: httpx.Client) -> None:
    for path in ("/", "/web/style.css", "/web/page.js"):
        assert client.get(path).headers["cache-control"] == "no-cache"  # asked again each time
    kept = {"If-None-Match": client.get("/web/page.js").headers["etag"]}
    assert client.get("/web/page.js", headers=kept).status_code == 304


def test_an_unexpected_error_carries_them_too(base_settings: Settings) -> None:
    settings = base_settings.model_copy(update={"cors_origins": ("https://example.org",)})
    with service(settings) as client:
        answer = client.post("/predict", content=b"hello", headers=SITE)
    assert answer.status_code == 415
    assert answer.headers["access-control-allow-origin"] == SITE["Origin"]
    assert "X-Request-ID" in answer.headers["access-control-expose-headers"]


def test_other_sites_can_read_every_header_that_is_documented(client: httpx.Client) -> None:
    documented = {
        name
        for path in client.get("/openapi.json").json()["paths"].values()
        for operation in path.values()
        for answer in operation["responses"].values()
        for name in answer.get("headers", {})
    }
    assert documented > {"X-DeepEmotion-Abstained", "Retry-After"}
    assert documented - {"WWW-Authenticate"} <= set(READABLE)


def test_other_sites_may_not_ask(client: httpx.Client) -> None:
    answer = client.post("/predict", content=plain(), headers=SITE)
    assert answer.status_code == 200  # curl and the like ignore all this
    asked = client.options("/predict", headers=ASKING)
    assert asked.status_code == 405
    assert not [
        name for each in (answer, asked) for name in each.headers if name.startswith("access-control")
    ]


def test_a_named_site_may_ask_and_no_other(base_settings: Settings) -> None:
    settings = base_settings.model_copy(update={"cors_origins": ("https://example.org",)})
    with service(settings) as client:
        asked = client.options("/predict", headers=ASKING)
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, SITE["Origin"])
        assert "access-control-allow-credentials" not in asked.headers
        other = client.options("/predict", headers=ASKING | {"Origin": "https://example.com"})
        assert (other.status_code, "access-control-allow-origin" in other.headers) == (400, False)


@pytest.mark.parametrize("origin", ["*", "example.org", "https://*.example.org", "https://example.org/page"])
def test_an_origin_is_a_site_by_its_name(origin: str) -> None:
    with pytest.raises(ValidationError):
        Settings(cors_origins=(origin,))
