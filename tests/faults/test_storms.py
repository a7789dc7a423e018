"""Short storms; ``make chaos`` and ``make soak`` run long ones."""

from __future__ import annotations

from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.faults.storm import LEAK, MEBIBYTE, Report, storm, victim

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_chaos(checkpoint_path: Path) -> None:
    with victim(checkpoint_path, deaths_every=0.5) as url:
        report = storm(url, 600, rude=0.3, broken=0.3, explanations=0.05)
    assert report.answers["left"] > 0
    assert report.restarts > 0
    report.check()


def test_a_soak(checkpoint_path: Path) -> None:
    with victim(checkpoint_path, deaths_every=0) as url:
        report = storm(url, 1000, rude=0, broken=0, explanations=0)
    assert report.answers == {"200": 1000}
    report.check()


class Breaking(BaseHTTPRequestHandler):
    """A service that hangs up on every other prediction, and tells the metrics that a storm asks for."""

    asked = 0
    lock = Lock()

    def do_GET(self) -> None:
        names = ("process_open_fds", "process_resident_memory_bytes", "deepemotion_worker_restarts_total")
        self._say("".join(f"{name} 16\n" for name in names).encode())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        with self.lock:
            type(self).asked += 1
            answers = self.asked % 2
        if answers:
            self._say(b"{}")

    def _say(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def breaking() -> Iterator[str]:
    Breaking.asked = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Breaking)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_what_breaks_is_counted_by_name_and_is_no_success(breaking: str) -> None:
    report = storm(breaking, 40, rude=0, broken=0, explanations=0)
    assert report.answers == {"200": 20, "RemoteProtocolError": 20}
    with pytest.raises(AssertionError, match="RemoteProtocolError"):
        report.check()


def test_clients_that_fail_are_heard_of(breaking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr("tests.faults.storm._asked", fails)
    with pytest.raises(ZeroDivisionError):
        storm(breaking, 40, rude=0, broken=0, explanations=0)


def test_nobody_listens_is_no_storm() -> None:
    with pytest.raises(httpx.ConnectError):
        storm("http://127.0.0.1:1", 40, rude=0, broken=0, explanations=0)


@pytest.mark.parametrize(
    ("answers", "gentle", "passes"),
    [
        ({"200": 100}, True, True),
        ({"200": 99}, True, False),
        ({"200": 99, "503": 1}, True, False),
        ({"200": 99, "503": 1}, False, True),
        ({"200": 99, "500": 1}, False, False),
        ({"503": 100}, False, False),
        ({"200": 99, "left": 1}, True, False),
        ({"200": 99, "ReadError": 1}, False, False),
    ],
)
def test_every_request_has_an_answer_that_it_may_have(
    answers: dict[str, int], gentle: bool, passes: bool
) -> None:
    report = Report(100, gentle, Counter(answers), memory=(600.0 * MEBIBYTE, 601.0 * MEBIBYTE))
    if passes:
        report.check()
    else:
        with pytest.raises(AssertionError):
            report.check()


@pytest.mark.parametrize(
    ("memory", "files"), [((600.0 * MEBIBYTE, 600.0 * MEBIBYTE + LEAK + 1), (16.0, 16.0)), ((0, 0), (16, 19))]
)
def test_what_has_grown_is_a_leak(memory: tuple[float, float], files: tuple[float, float]) -> None:
    with pytest.raises(AssertionError):
        Report(1, gentle=True, answers=Counter({"200": 1}), memory=memory, files=files).check()
