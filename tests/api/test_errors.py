from __future__ import annotations

import json
import logging
import threading
from typing import TYPE_CHECKING

import pytest

from app import telemetry
from app.api.errors import TABLE
from app.api.problems import problem_response
from app.engine import EngineStopped, QueueFull
from app.main import create_app
from tests.api.serving import service, serving, slug
from tests.pictures import encoded, noise, plain, png_bomb
from tests.tiny import write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from app.settings import Settings


@pytest.mark.parametrize("path", ["/predict", "/explain"])
@pytest.mark.parametrize(
    ("data", "status", "name"),
    [
        (b"", 400, "empty-picture"),
        (b"hello", 415, "unsupported-picture"),
        (b"GIF89a" + bytes(50), 415, "unsupported-picture"),
        (png_bomb(), 413, "too-many-pixels"),
        (png_bomb(9000, 9000), 413, "too-many-pixels"),
        (encoded(noise((64, 64)), "JPEG")[:-500], 422, "broken-picture"),
        (encoded(noise((64, 64)), "PNG")[:-500], 422, "broken-picture"),
        (encoded(noise((64, 64)), "WEBP")[:-500], 422, "broken-picture"),
    ],
)
def test_pictures(client: httpx.Client, path: str, data: bytes, status: int, name: str) -> None:
    for sent in ({"content": data}, {"files": {"file": data}}):
        response = client.post(path, **sent)
        assert (response.status_code, slug(response)) == (status, name)


def test_paths_and_methods(client: httpx.Client) -> None:
    response = client.get("/nowhere/<script>")
    assert (response.status_code, slug(response)) == (404, "not-found")
    assert "script" not in response.text
    response = client.get("/predict")
    assert (response.status_code, slug(response)) == (405, "method-not-allowed")
    assert response.headers["allow"] == "POST"
    response = client.get("/static-offline-docs/none.js")
    assert (response.status_code, slug(response)) == (404, "not-found")


def test_a_connection_lives_on_after_a_refused_picture(client: httpx.Client) -> None:
    assert "connection" not in client.post("/predict", content=b"hello").headers


def at_once(client: httpx.Client, path: str, count: int) -> list[httpx.Response]:
    """Send as many requests together."""
    responses: list[httpx.Response] = []
    data = plain()

    def ask() -> None:
        responses.append(client.post(path, content=data))

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return responses


@pytest.mark.parametrize("path", ["/predict", "/explain"])
def test_a_full_queue(crowded: httpx.Client, path: str) -> None:
    responses = at_once(crowded, path, 8)
    refused = [response for response in responses if response.status_code == 503]
    assert {response.status_code for response in responses} == {200, 503}
    assert "queue-full" in {slug(response) for response in refused} <= {"queue-full", "busy"}
    assert all(int(response.headers["retry-after"]) >= 1 for response in refused)


@pytest.mark.parametrize("path", ["/predict", "/explain"])
@pytest.mark.parametrize("seconds", [0.000001, 0.05], ids=["decoding", "inferring"])
def test_a_deadline(base_settings: Settings, slow_checkpoint: Path, seconds: float, path: str) -> None:
    limits = {"checkpoint": slow_checkpoint, "predict_seconds": seconds, "explain_seconds": seconds}
    with service(base_settings.model_copy(update=limits)) as client:
        response = client.post(path, content=plain())
        assert (response.status_code, slug(response)) == (504, "deadline-passed")


@pytest.mark.parametrize("path", ["/predict", "/explain"])
def test_a_network_that_fails(base_settings: Settings, tmp_path: Path, path: str) -> None:
    failing = write_checkpoint(tmp_path, fails_on_white=True)
    with service(base_settings.model_copy(update={"checkpoint": failing})) as client:
        response = client.post(path, content=plain((255, 255, 255)))
        assert (response.status_code, slug(response)) == (500, "model-failed")
        assert "cannot bear white" not in response.text
        assert client.post(path, content=plain()).status_code == 200


def test_below_v2_it_has_the_protocol_s_form(base_settings: Settings) -> None:
    app = create_app(base_settings)

    async def fail() -> None:
        raise LookupError

    app.add_api_route("/v2/fail", fail)
    with serving(app) as client:
        response = client.get("/v2/fail")
    assert response.status_code == 500
    assert list(response.json()) == ["error"]


def test_an_error_that_nobody_expected(base_settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(base_settings)

    async def fail() -> None:
        raise LookupError("secret of ours")

    app.add_api_route("/fail", fail)
    with serving(app) as client:
        response = client.get("/fail", headers={"X-Request-ID": "broken-one"})
    assert (response.status_code, slug(response)) == (500, "internal")
    assert response.headers["x-request-id"] == "broken-one"
    assert "secret" not in response.text
    record = next(record for record in caplog.records if record.name == "deepemotion.failure")
    line = json.loads(telemetry.JsonFormatter().format(record))
    assert line["request_id"] == "broken-one"
    assert line["error"] == "LookupError"
    assert "in fail" in "".join(line["traceback"])


def test_a_stopped_engine_and_a_lack_of_memory() -> None:
    for error, name in ((EngineStopped("inside"), "stopping"), (MemoryError("inside"), "out-of-memory")):
        response = problem_response(error, "id")
        answer = json.loads(bytes(response.body))
        assert response.status_code == 503
        assert answer["type"].endswith(name)
        assert int(response.headers["retry-after"]) >= 1
        assert "inside" not in answer["detail"]


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.2, "2"), (7.0, "7")])
def test_retry_after_is_whole_seconds(seconds: float, header: str) -> None:
    assert problem_response(QueueFull("full", seconds), "id").headers["retry-after"] == header


def test_slugs_are_distinct() -> None:
    slugs = [kind.slug for kind in TABLE.values()]
    assert len(set(slugs)) == len(slugs)


def test_a_log_line_holds_on_one_line_and_little_of_a_message() -> None:
    record = logging.LogRecord("x", logging.INFO, "f", 1, "two\nlines %s", ("\x1b[31m",), None)
    line = telemetry.JsonFormatter().format(record)
    assert "\n" not in line
    assert "\x1b" not in line
    assert json.loads(line)["message"] == "two\nlines \x1b[31m"
    described = telemetry.describe(ValueError("x" * 10_000))
    assert len("".join(described["traceback"])) < 1000


def test_causes_are_told() -> None:
    error = ValueError("second")
    error.__cause__ = OSError("first")
    stack = "\n".join(telemetry.describe(error)["traceback"])
    assert "ValueError: second" in stack
    assert "OSError: first" in stack
