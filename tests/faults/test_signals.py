"""What the process's end does to requests."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.api.process import Process
from tests.api.serving import PATIENCE, wait_until
from tests.api.test_metrics import samples
from tests.pictures import plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLIENTS = 6
STEPS = ("deepemotion_batch_seconds_count", (("kind", "explanation"),))


class Load:
    """Clients that ask one request after the other until they can no longer connect."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: list[int] = []
        self.cut = 0
        self.refused = 0
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        while True:
            try:
                self.answers.append(
                    httpx.post(f"{self.url}/predict", content=plain(), timeout=PATIENCE).status_code
                )
            except httpx.ConnectError:
                self.refused += 1
                return
            except httpx.TransportError:
                self.cut += 1
                return

    def until_over(self) -> None:
        for thread in self._threads:
            thread.join()


@pytest.fixture
def started(slow_checkpoint: Path) -> Iterator[Process]:
    process = Process("--checkpoint", str(slow_checkpoint), "--threads", "1")
    with httpx.Client(base_url=process.url(), timeout=PATIENCE) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
    yield process
    if process.process.poll() is None:
        process.process.kill()
    process.end()


def test_sigterm_under_load_answers_everything_that_was_accepted(started: Process) -> None:
    load = Load(started.url())
    wait_until(lambda: len(load.answers) >= 2 * CLIENTS)
    started.process.send_signal(signal.SIGTERM)
    load.until_over()
    assert started.end() == 0
    assert set(load.answers) == {200}
    taken = [line for line in started.log() if line.get("route") == "/predict"]
    assert [line["status"] for line in taken] == [200] * len(taken)
    assert len(load.answers) == len(taken)  # every request that the service saw was answered, and arrived


def test_what_outlasts_the_drain_is_answered_as_the_service_answers(slow_checkpoint: Path) -> None:
    started = Process("--checkpoint", str(slow_checkpoint), "--threads", "1", DEEPEMOTION_DRAIN_SECONDS="1")
    with httpx.Client(base_url=started.url(), timeout=PATIENCE) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        answers: list[httpx.Response] = []
        params = {"quality": "thorough"}

        def ask() -> None:
            answers.append(
                httpx.post(f"{started.url()}/explain", content=plain(), params=params, timeout=PATIENCE)
            )

        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(lambda: samples(client)[STEPS] > 0)
    started.process.send_signal(signal.SIGTERM)
    asking.join()
    (answer,) = answers
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:deepemotion:problem:stopping"
    assert int(answer.headers["retry-after"]) > 0
    assert started.end() == 0
    assert [line["status"] for line in started.log() if line.get("route") == "/explain"] == [503]


def test_sigkill_loses_what_was_in_flight_and_the_next_start_is_clean(
    started: Process, slow_checkpoint: Path
) -> None:
    load = Load(started.url())
    wait_until(lambda: len(load.answers) >= 2 * CLIENTS)
    started.process.kill()
    load.until_over()
    assert set(load.answers) == {200}
    assert load.cut + load.refused == CLIENTS  # each client lost the one request that it waited for, at most
    again = Process("--checkpoint", str(slow_checkpoint), "--threads", "1")
    with httpx.Client(base_url=again.url(), timeout=PATIENCE) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert client.post("/predict", content=plain()).status_code == 200
    again.process.send_signal(signal.SIGTERM)
    assert again.end() == 0
