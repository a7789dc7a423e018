"""What the process's end does to requests."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from http.client import HTTPResponse
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest

from app.main import LAST_SECONDS
from tests.api.process import Process
from tests.api.serving import PATIENCE, wait_until
from tests.api.test_metrics import samples
from tests.pictures import plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from urllib.parse import SplitResult

CLIENTS = 6
ARRIVES_WITHIN = 0.05
"""Seconds for a request to reach the service. An answer takes six times as long at least, so there is time to
find all clients waiting, and to stop the service meanwhile."""
DRAIN_SECONDS = 1
BUSY_SECONDS = 5.0
"""For what a busy machine takes longer; the work that is cut short would take twice as long."""
STEPS = ("deepemotion_batch_seconds_count", (("kind", "explanation"),))


class Load:
    """Clients that ask one request after the other until one is not answered.

    Attributes:
        answers: statuses.
        refused: clients that could not connect any more.
        lost: what broke, of those that could.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: list[int] = []
        self.refused = 0
        self.lost: list[str] = []
        self._asked_at = [time.monotonic()] * CLIENTS
        self._threads = [
            threading.Thread(target=self._ask, args=[who], daemon=True) for who in range(CLIENTS)
        ]
        for thread in self._threads:
            thread.start()

    def _ask(self, who: int) -> None:
        each_anew = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(base_url=self.url, timeout=PATIENCE, limits=each_anew) as client:
            while True:
                self._asked_at[who] = time.monotonic()
                try:
                    answer = client.post("/predict", content=plain())
                except httpx.ConnectError:
                    self.refused += 1
                    return
                except httpx.TransportError as error:
                    self.lost.append(type(error).__name__)
                    return
                self.answers.append(answer.status_code)

    def until_all_wait(self) -> None:
        """Wait for a moment in which the service has the request of every client, and none is connecting."""
        wait_until(lambda: len(self.answers) >= 2 * CLIENTS)
        wait_until(lambda: time.monotonic() - max(self._asked_at) > ARRIVES_WITHIN)

    def until_over(self) -> None:
        for thread in self._threads:
            thread.join(2 * PATIENCE)
            assert not thread.is_alive()


def taken_by(service: Process) -> list[object]:
    """The statuses of the predictions that the service says it has answered."""
    return [line["status"] for line in service.log() if line.get("route") == "/predict"]


def refuses(address: SplitResult) -> bool:
    """Whether the service takes no connections any more."""
    try:
        socket.create_connection((address.hostname, address.port), PATIENCE).close()
    except ConnectionError:
        return True
    return False


@pytest.fixture
def started(slow_checkpoint: Path) -> Iterator[Process]:
    with Process("--checkpoint", str(slow_checkpoint), "--threads", "1") as process:
        process.ready()
        yield process


def test_sigterm_under_load_answers_everything_that_was_accepted(started: Process) -> None:
    load = Load(started.url())
    load.until_all_wait()
    started.process.send_signal(signal.SIGTERM)
    load.until_over()
    assert started.end() == 0
    assert set(load.answers) == {200}
    assert (load.refused, load.lost) == (CLIENTS, [])
    assert taken_by(started) == load.answers  # every request that the service saw was answered, and arrived


def test_what_comes_on_an_open_connection_while_it_stops_is_answered(started: Process) -> None:
    address = urlsplit(started.url())
    request = b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % len(plain())
    with socket.create_connection((address.hostname, address.port)) as early:
        early.settimeout(PATIENCE)
        time.sleep(ARRIVES_WITHIN)
        started.process.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses(address))
        early.sendall(request + plain())
        answer = HTTPResponse(early)
        answer.begin()
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
        assert "distribution" in json.loads(answer.read())
        assert early.recv(1) == b""
    assert started.end() == 0


def test_what_outlasts_the_drain_is_answered_as_the_service_answers(slow_checkpoint: Path) -> None:
    with Process(
        "--checkpoint", str(slow_checkpoint), "--threads", "1", DEEPEMOTION_DRAIN_SECONDS=f"{DRAIN_SECONDS}"
    ) as started:
        answers: list[httpx.Response] = []
        params = {"quality": "thorough", "view": "sheet"}  # a third of a second for each of 48 steps
        url = started.ready()

        def ask() -> None:
            answers.append(httpx.post(f"{url}/explain", content=plain(), params=params, timeout=PATIENCE))

        asking = threading.Thread(target=ask)
        asking.start()
        with httpx.Client(base_url=url, timeout=PATIENCE) as client:
            wait_until(lambda: samples(client)[STEPS] > 0)
        started.process.send_signal(signal.SIGTERM)
        stopping = time.monotonic()
        asking.join()
        (answer,) = answers
        assert answer.status_code == 503
        assert answer.json()["type"] == "urn:deepemotion:problem:stopping"
        assert int(answer.headers["retry-after"]) > 0
        assert started.end() == 0
        assert time.monotonic() - stopping < DRAIN_SECONDS + LAST_SECONDS + BUSY_SECONDS
        assert [line["status"] for line in started.log() if line.get("route") == "/explain"] == [503]


def test_sigkill_loses_what_was_in_flight_and_the_next_start_is_clean(
    started: Process, slow_checkpoint: Path
) -> None:
    load = Load(started.url())
    load.until_all_wait()
    started.process.kill()
    load.until_over()
    started.end()
    assert set(load.answers) == {200}
    assert not any("Timeout" in name for name in load.lost)  # they are told at once
    assert len(taken_by(started)) <= len(load.answers)  # what it said it had answered, arrived
    with Process("--checkpoint", str(slow_checkpoint), "--threads", "1") as again:
        with httpx.Client(base_url=again.ready(), timeout=PATIENCE) as client:
            assert client.post("/predict", content=plain()).status_code == 200
        again.process.send_signal(signal.SIGTERM)
        assert again.end() == 0


def test_sighup_during_the_start_is_survived(slow_checkpoint: Path) -> None:
    """It asks for the checkpoint to be read again, and by default it would end the process."""
    with Process("--checkpoint", str(slow_checkpoint), "--threads", "1") as starting:
        wait_until(lambda: any("startup" in str(line["message"]) for line in starting.log()))
        starting.process.send_signal(signal.SIGHUP)
        with httpx.Client(base_url=starting.ready(), timeout=PATIENCE) as client:
            assert client.post("/predict", content=plain()).status_code == 200
