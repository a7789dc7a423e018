"""A prediction without parameters is refused before the route; whoever asks must not be able to tell."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import pytest

from app.api import rates
from app.engine import Kind
from app.keys import line_of, new_key
from app.main import create_app
from app.settings import Settings
from tests.api.serving import serving, slug
from tests.api.test_keys import bearer
from tests.api.test_metrics import samples
from tests.api.test_upload import head, raw_exchange
from tests.pictures import plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

EARLY, LATE = "/v1/predict", "/v1/predict?top_k=1"
"""The second has a parameter, which only the route can judge."""
KEY = new_key()


@contextmanager
def full(base: Settings, **limits: object) -> Iterator[httpx.Client]:
    """A client of a service whose places are all held."""
    settings = Settings.model_validate(base.model_dump() | {"max_predictions": 2} | limits)
    app = create_app(settings)
    with serving(app, settings) as client, ExitStack() as held:
        for _ in range(settings.max_predictions):
            engine = app.state.service.engine
            held.enter_context(engine.place(Kind.PREDICTION, deadline=time.monotonic() + 60))
        yield client


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the route was asked, since the first thing it does is to look at the price."""
    asked: list[object] = []

    def spend(request: object, service: object, units: float) -> None:
        asked.append(request)
        rates.spend(request, service, units)  # type: ignore[arg-type]

    monkeypatch.setattr("app.api.predict.spend", spend)
    return asked


def seen(
    client: httpx.Client, path: str, caplog: pytest.LogCaptureFixture, **headers: str
) -> dict[str, object]:
    """All that anybody can see of one refusal, but for what differs from request to request."""
    before = samples(client)
    caplog.clear()
    caplog.set_level(logging.INFO, "deepemotion.request")
    answer = client.post(path, content=plain(), headers=headers)
    after = samples(client)
    logged = [record.__dict__.get("fields", {}) for record in caplog.records]
    (line,) = [fields for fields in logged if fields.get("method") == "POST"]
    counted = {
        key: value - before.get(key, 0.0)
        for key, value in after.items()
        if key[0].startswith(("deepemotion_requests_total", "deepemotion_shed"))
        and dict(key[1]).get("method") != "GET"
    }
    return {
        "slug": slug(answer),
        "body": {name: value for name, value in answer.json().items() if name != "request_id"},
        "headers": {
            name: value for name, value in answer.headers.items() if name not in {"x-request-id", "date"}
        },
        "log": {name: value for name, value in line.items() if name not in {"ms", "request_id"}},
        "counted": {key: change for key, change in counted.items() if change},
    }


def test_no_room(base_settings: Settings, caplog: pytest.LogCaptureFixture, reached: list[object]) -> None:
    with full(base_settings) as client:
        early = seen(client, EARLY, caplog)
        assert not reached
        assert early == seen(client, LATE, caplog)
        assert len(reached) == 1
        assert early["slug"] == "queue-full"
        assert early["log"] == {"method": "POST", "route": EARLY, "status": 503, "problem": "queue-full"}
        assert seen(client, "/predict", caplog)["log"] == {
            "method": "POST",
            "route": "/predict",
            "status": 503,
            "problem": "queue-full",
        }
        client.post("/predict", content=plain(), headers={"X-DeepEmotion-Timeout": "never"})
        assert client.post("/v1/predict?top_k=0", content=plain()).status_code == 422


def test_a_stranger_is_not_told_that_there_is_no_room(
    base_settings: Settings, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (keys := tmp_path / "keys").write_text(line_of("alice", KEY), "utf-8")
    with full(base_settings, keys_file=keys) as client:
        for headers in ({}, bearer("de_wrong"), {"Authorization": f"Basic {KEY}"}):
            early = seen(client, EARLY, caplog, **headers)
            assert early == seen(client, LATE, caplog, **headers)
            assert early["slug"] == "key-needed"
        known = seen(client, EARLY, caplog, **bearer(KEY))
        assert known == seen(client, LATE, caplog, **bearer(KEY))
        named = {"problem": "queue-full", "key": "alice"}
        assert known["log"] == {"method": "POST", "route": EARLY, "status": 503} | named
        keys.write_text("nonsense", "utf-8")
        early = seen(client, EARLY, caplog, **bearer(KEY))
        assert early == seen(client, LATE, caplog, **bearer(KEY))
        assert early["slug"] == "keys-unreadable"


def test_a_refusal_is_paid_for(base_settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    with full(base_settings, rate_units=0.001, rate_burst=2) as client:
        assert seen(client, EARLY, caplog)["slug"] == "queue-full"
        assert seen(client, LATE, caplog)["slug"] == "queue-full"
        early = seen(client, EARLY, caplog)
        assert early == seen(client, LATE, caplog)
        assert early["slug"] == "too-often"


def test_a_short_body_leaves_the_connection_open(base_settings: Settings) -> None:
    with full(base_settings) as client:
        assert b"connection: close" in raw_exchange(client, head(3_000_000) + bytes(3_000_000))
        host, port = client.base_url.host, client.base_url.port or 80
        with closing(HTTPConnection(host, port, timeout=20)) as connection:
            for _ in range(2):
                connection.request("POST", "/predict", bytes(100_000))
                answer = connection.getresponse()
                assert answer.status == 503
                assert not answer.will_close
                answer.read()


def test_a_short_body_that_does_not_come_is_not_waited_for(base_settings: Settings) -> None:
    with full(base_settings) as client:
        began = time.monotonic()
        answer = raw_exchange(client, head(1000) + bytes(10))
        assert b"connection: close" in answer
        assert time.monotonic() - began < 10  # which is how long a head, or a body, may take
