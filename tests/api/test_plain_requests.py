"""Methods and paths as HTTP has them, where the framework has them otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.api.serving import slug, wait_until
from tests.api.test_metrics import samples
from tests.pictures import plain

if TYPE_CHECKING:
    import httpx

GET_ROUTES = ("/", "/card", "/docs", "/redoc", "/openapi.json", "/healthz", "/readyz", "/v1/model", "/v2")


@pytest.mark.parametrize("path", [*GET_ROUTES, "/web/style.css", "/v2/health/ready", "/v2/models/tiny"])
def test_head_is_get_without_the_body(client: httpx.Client, path: str) -> None:
    asked, got = client.head(path), client.get(path)
    assert (asked.status_code, asked.content) == (got.status_code, b"") == (200, b"")
    told = {"content-type", "content-length", "content-security-policy", "cache-control"}
    assert {name: asked.headers.get(name) for name in told} == {name: got.headers.get(name) for name in told}


def test_head_is_counted_as_what_it_is(client: httpx.Client) -> None:
    key = ("deepemotion_requests_total", (("method", "HEAD"), ("route", "/metrics"), ("status", "200")))
    before = samples(client).get(key, 0.0)
    assert client.head("/metrics").status_code == 200
    wait_until(lambda: samples(client).get(key, 0.0) == before + 1)


def test_head_asks_for_no_prediction(client: httpx.Client) -> None:
    refused = client.head("/predict")
    assert (refused.status_code, refused.headers["allow"], refused.content) == (405, "POST", b"")
    assert client.head("/nowhere").status_code == 404


def test_the_documentation_has_each_route_once(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {method for operations in paths.values() for method in operations} == {"get", "post"}


@pytest.mark.parametrize("path", ["/predict/", "/v1/predict/", "/healthz/", "/v1/model/"])
def test_a_slash_too_many_leads_nowhere(client: httpx.Client, path: str) -> None:
    """A redirection would lead to whatever host the request names."""
    for answer in (
        client.post(path, content=plain(), headers={"Host": "elsewhere.example"}),
        client.get(path, headers={"Host": "elsewhere.example"}),
    ):
        assert (answer.status_code, slug(answer)) == (404, "not-found")
        assert "location" not in answer.headers


@pytest.mark.parametrize("path", ["/metrics%0A", "/healthz%0a", "/metrics%00", "/%7Fmetrics"])
def test_a_path_with_control_characters_is_none(client: httpx.Client, path: str) -> None:
    for answer in (client.get(path), client.post(path)):
        assert (answer.status_code, slug(answer)) == (404, "not-found")
    assert client.head(path).status_code == 404
    below = client.get("/v2/health/live%0A")
    assert (below.status_code, list(below.json())) == (404, ["error"])
