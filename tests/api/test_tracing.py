from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, ClassVar

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from PIL import Image
from pydantic import ValidationError

from app.main import create_app
from app.settings import Settings
from app.tracing import send_the_rest, sending_to
from tests.api.process import Process
from tests.api.serving import PATIENCE, serving, wait_until
from tests.pictures import encoded, plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Traced:
    """A client of a service, and the spans that it ends."""

    def __init__(self, client: httpx.Client, kept: InMemorySpanExporter) -> None:
        self.client = client
        self._kept = kept

    def server(self, request_id: str) -> ReadableSpan:
        """The span of a request, once it has ended."""
        found: list[ReadableSpan] = []

        def ended() -> bool:
            found.extend(
                each
                for each in self._kept.get_finished_spans()
                if (each.attributes or {}).get("deepemotion.request_id") == request_id
            )
            return bool(found)

        wait_until(ended)
        return found[0]

    def parts(self, server: ReadableSpan) -> dict[str, ReadableSpan]:
        """The spans below it, by name."""
        return {
            each.name: each
            for each in self._kept.get_finished_spans()
            if each.parent is not None and each.parent.span_id == server.context.span_id
        }


@pytest.fixture(scope="module")
def traced(base_settings: Settings, slow_checkpoint: Path) -> Iterator[Traced]:
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    settings = base_settings.model_copy(update={"checkpoint": slow_checkpoint, "traces": "http://[::1]:1"})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("app.main.sending_to", lambda _: provider)
        app = create_app(settings)
        with serving(app, settings) as client:
            yield Traced(client, kept)


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


def test_a_failure_that_nothing_knows_has_a_span_of_its_own(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.api.predict.time_allowed", lambda *_: 1 // 0)
    answer = traced.client.post("/predict", content=plain(), headers={"X-Request-ID": "traced-failure"})
    assert answer.status_code == 500
    server = traced.server("traced-failure")
    assert (server.name, (server.attributes or {})["http.response.status_code"]) == ("POST /predict", 500)


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/predict", {"decode", "queue", "infer"}),
        ("/explain", {"decode", "queue", "infer", "render"}),
    ],
)
def test_each_part_has_a_span_below_the_requests(traced: Traced, path: str, parts: set[str]) -> None:
    headers = {"X-Request-ID": f"traced-{path[1:]}", "traceparent": CALLER}
    response = traced.client.post(path, content=plain(), headers=headers)
    server = traced.server(headers["X-Request-ID"])
    assert server.name == f"POST {path}"
    assert server.parent is not None
    assert f"{server.parent.trace_id:032x}-{server.parent.span_id:016x}" in CALLER
    assert (server.attributes or {})["http.response.status_code"] == response.status_code == 200
    found = traced.parts(server)
    assert set(found) == parts
    told = dict(part.split(";dur=") for part in response.headers["server-timing"].split(", "))
    for name in ("queue", "infer"):
        assert seconds(found[name]) == pytest.approx(float(told[name]) / 1000, abs=1e-3)
    assert sum(map(seconds, found.values())) <= seconds(server)


def test_pictures_of_a_batch_have_their_own(traced: Traced) -> None:
    files = [("file", plain()), ("file", b"hello")]
    traced.client.post("/v1/predict/batch", files=files, headers={"X-Request-ID": "batch"})
    assert set(traced.parts(traced.server("batch"))) == {"decode", "queue", "infer"}


def test_what_failed_says_so(traced: Traced) -> None:
    headers = {"X-Request-ID": "too-late", "X-DeepEmotion-Timeout": "0.01"}
    assert traced.client.post("/predict", content=plain(), headers=headers).status_code in {503, 504}
    assert traced.server("too-late").status.status_code is StatusCode.ERROR
    traced.client.post("/predict", content=b"hello", headers={"X-Request-ID": "no-picture"})
    assert traced.server("no-picture").status.status_code is StatusCode.UNSET


def test_a_head_is_told_by_its_route(traced: Traced) -> None:
    traced.client.head("/v1/model", headers={"X-Request-ID": "head"})
    assert traced.server("head").name == "HEAD /v1/model"


def test_a_state_in_several_lines_is_kept_whole(traced: Traced) -> None:
    lines = [("X-Request-ID", "state"), ("traceparent", CALLER), ("tracestate", "a=1"), ("tracestate", "b=2")]
    traced.client.get("/v1/model", headers=lines)
    context = traced.server("state").get_span_context()
    assert context is not None
    assert context.trace_state.to_header() == "a=1,b=2"


def test_nothing_of_the_client_is_told(traced: Traced) -> None:
    traced.client.get("/a-secret?of=mine", headers={"X-Request-ID": "lost"})
    server = traced.server("lost")
    assert server.name == "GET none"
    assert "secret" not in str(server.to_json())


def test_nothing_of_a_picture_is_told_when_it_is_refused(traced: Traced) -> None:
    large = encoded(Image.new("1", (20_000, 4_001)))
    cut = plain()[:-30]
    for name, picture, slug in (("large", large, "too-many-pixels"), ("cut", cut, "broken-picture")):
        answer = traced.client.post("/predict", content=picture, headers={"X-Request-ID": name})
        assert answer.json()["type"].endswith(slug)
        server = traced.server(name)
        for each in (server, *traced.parts(server).values()):
            assert not each.events
            assert each.status.description is None


def test_a_client_that_leaves_is_still_noticed(traced: Traced) -> None:
    """An explanation by the slow network takes seconds; it ends as soon as nobody waits for it."""
    body = plain()
    head = (
        "POST /explain?quality=thorough HTTP/1.1\r\nHost: x\r\nX-Request-ID: left\r\n"
        f"Content-Type: image/png\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    url = traced.client.base_url

    def begun() -> float:
        text = traced.client.get("/metrics").text
        (count,) = re.findall(r'batch_size_count\{kind="explanation"\} (\S+)', text)
        return float(count)

    before = begun()
    with socket.create_connection((url.host, url.port)) as connection:
        connection.sendall(head.encode() + body)
        wait_until(lambda: begun() > before)
    server = traced.server("left")
    assert (server.attributes or {})["http.response.status_code"] == 499
    assert "infer" not in traced.parts(server)


class Collector(BaseHTTPRequestHandler):
    """Takes whatever it is sent."""

    got: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        self.got.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_they_are_sent_where_the_operator_says(checkpoint_path: Path) -> None:
    collector = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    where = {
        "DEEPEMOTION_CHECKPOINT": str(checkpoint_path),
        "DEEPEMOTION_DEVICE": "cpu",
        "DEEPEMOTION_TRACES": f"http://127.0.0.1:{collector.server_port}/v1/traces",
    }
    try:
        with Process(**where) as served:
            with httpx.Client(base_url=served.ready(), timeout=PATIENCE) as client:
                assert client.post("/predict", content=plain()).status_code == 200
            served.process.send_signal(signal.SIGTERM)
            assert served.end() == 0
    finally:
        collector.shutdown()
        collector.server_close()
    assert {path for path, _ in Collector.got} == {"/v1/traces"}
    sent = b"".join(body for _, body in Collector.got)
    for name in (b"deepemotion", b"POST /predict", b"decode", b"queue", b"infer"):
        assert name in sent


def test_it_is_told_where_the_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    Settings(traces="http://localhost:4318/v1/traces")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    Settings()
    with pytest.raises(ValidationError, match=r"pip install 'deepemotion\[tracing\]'"):
        Settings(traces="http://localhost:4318/v1/traces")


def test_a_collector_that_does_not_answer_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(
        ("127.0.0.1", 0)
    ) as mute:  # the kernel takes the connection, and nobody answers
        spans = sending_to(f"http://127.0.0.1:{mute.getsockname()[1]}/v1/traces")
        spans.get_tracer("test").start_span("last").end()
        began = time.monotonic()
        asyncio.run(send_the_rest(spans, 0.2))
        assert time.monotonic() - began < 5  # the exporter itself waits for 10 s, and for 30 s in all
    assert "could not be sent" in caplog.text
