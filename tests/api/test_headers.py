"""What browsers are told, and which other sites may ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from app.api.headers import READABLE, SECURITY
from app.main import create_app
from app.settings import Settings
from tests.api.serving import serving, slug, wait_until
from tests.api.test_metrics import samples
from tests.pictures import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

SITE = {"Origin": "https://example.org"}
ASKING = SITE | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


@pytest.fixture(scope="module")
def open_to_one(base_settings: Settings) -> Iterator[httpx.Client]:
    """A client of a service that `SITE` may ask, and that has routes with a fault in them."""
    app = create_app(base_settings.model_copy(update={"cors_origins": (SITE["Origin"],)}))

    async def fail() -> None:
        raise LookupError

    app.add_api_route("/fail", fail)
    app.add_api_route("/v2/fail", fail)
    with serving(app) as client:
        yield client


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


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/predict", 400),
        ("GET", "/fail", 500),
        ("GET", "/v2/fail", 500),
        ("GET", "/nowhere", 404),
        ("GET", "/healthz%0A", 404),
        ("OPTIONS", "/predict", 405),
    ],
)
def test_an_error_carries_them_too(open_to_one: httpx.Client, method: str, path: str, status: int) -> None:
    answer = open_to_one.request(method, path, headers=SITE)
    assert answer.status_code == status
    assert {name: answer.headers[name] for name in SECURITY} == SECURITY
    assert answer.headers["access-control-allow-origin"] == SITE["Origin"]
    assert "X-Request-ID" in answer.headers["access-control-expose-headers"]
    assert len(answer.headers["x-request-id"]) == 32


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


def test_a_named_site_may_ask_and_no_other(open_to_one: httpx.Client) -> None:
    asked = open_to_one.options("/predict", headers=ASKING)
    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, SITE["Origin"])
    assert "access-control-allow-credentials" not in asked.headers
    other = open_to_one.options("/predict", headers=ASKING | {"Origin": "https://example.com"})
    assert (other.status_code, slug(other)) == (403, "forbidden")
    assert "CORS_ORIGINS" in other.json()["remedy"]
    assert "access-control-allow-origin" not in other.headers
    assert "Origin" in other.headers["vary"].split(", ")
    assert {name: other.headers[name] for name in SECURITY} == SECURITY


@pytest.mark.parametrize(
    ("name", "value"),
    [("Access-Control-Request-Method", "DELETE"), ("Access-Control-Request-Headers", "x-unheard-of")],
)
def test_what_no_page_may_send_is_refused(open_to_one: httpx.Client, name: str, value: str) -> None:
    refused = open_to_one.options("/predict", headers=ASKING | {name: value})
    assert (refused.status_code, slug(refused)) == (403, "forbidden")
    below = open_to_one.options("/v2/models/tiny/infer", headers=ASKING | {name: value})
    assert (below.status_code, list(below.json())) == (403, ["error"])


@pytest.mark.parametrize(
    "name", ["x-request-id", "x-deepemotion-timeout", "inference-header-content-length", "traceparent"]
)
def test_a_page_may_send_every_header_that_is_read(open_to_one: httpx.Client, name: str) -> None:
    asking = ASKING | {"Access-Control-Request-Headers": f"authorization,{name}"}
    assert open_to_one.options("/v2/models/tiny/infer", headers=asking).status_code == 200


def test_who_asks_whether_he_may_is_recorded_as_everybody(
    open_to_one: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    key = ("deepemotion_requests_total", (("method", "OPTIONS"), ("route", "none"), ("status", "403")))
    before = samples(open_to_one).get(key, 0.0)
    caplog.set_level("INFO", "deepemotion.request")
    other = ASKING | {"Origin": "https://example.com", "X-Request-ID": "may-i"}
    assert open_to_one.options("/predict", headers=other).headers["x-request-id"] == "may-i"
    wait_until(lambda: samples(open_to_one).get(key, 0.0) == before + 1)
    assert "may-i" in [getattr(record, "fields", {}).get("request_id") for record in caplog.records]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("https://Example.org", "https://example.org"),
        ("https://example.org:443", "https://example.org"),
        ("http://example.org:80", "http://example.org"),
        ("http://example.org:443", "http://example.org:443"),
        ("http://[2001:DB8::1]:8080", "http://[2001:db8::1]:8080"),
    ],
)
def test_an_origin_is_taken_as_browsers_say_it(given: str, said: str) -> None:
    assert Settings(cors_origins=(given,)).cors_origins == (said,)


@pytest.mark.parametrize("origin", ["*", "example.org", "https://*.example.org", "https://example.org/page"])
def test_an_origin_is_a_site_by_its_name(origin: str) -> None:
    with pytest.raises(ValidationError):
        Settings(cors_origins=(origin,))
