"""Slow and many connections (Slowloris)."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest

from tests.api.serving import service, wait_until
from tests.pictures import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from app.settings import Settings

HEAD_SECONDS = 1.0
MOST = 12


@pytest.fixture
def client(base_settings: Settings) -> Iterator[httpx.Client]:
    limits = {"head_seconds": HEAD_SECONDS, "max_connections": MOST}
    with service(base_settings.model_copy(update=limits)) as client:
        yield client


def connect(client: httpx.Client) -> socket.socket:
    return socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=20)


def closed_after(connection: socket.socket) -> float:
    """Seconds until the other side closes without a word."""
    began = time.monotonic()
    assert connection.recv(1) == b""
    return time.monotonic() - began


@pytest.mark.parametrize("sent", [b"", b"POST /predict HT", b"GET /healthz HTTP/1.1\r\nHost: test\r\n"])
def test_a_head_that_does_not_come_is_not_waited_for(client: httpx.Client, sent: bytes) -> None:
    with closing(connect(client)) as connection:
        connection.sendall(sent)
        assert HEAD_SECONDS - 0.2 < closed_after(connection) < 15


def test_a_head_that_drips_is_cut_off_while_others_are_served(client: httpx.Client) -> None:
    with closing(connect(client)) as connection:
        began = time.monotonic()
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        while time.monotonic() < began + 15:
            try:
                connection.sendall(b"x")  # one byte of a header that never ends
            except OSError:  # reset or broken pipe, as the moment has it
                break
            assert client.post("/predict", content=plain()).status_code == 200
            time.sleep(0.1)
        assert HEAD_SECONDS - 0.2 < time.monotonic() - began < 10


def test_the_second_head_of_a_connection_has_its_own_time(client: httpx.Client) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n"
    with closing(connect(client)) as connection:
        for _ in range(2):  # the second after the first's time would have run out
            connection.sendall(request)
            assert b"HTTP/1.1 200" in connection.recv(65536)
            time.sleep(HEAD_SECONDS * 1.2)
        connection.sendall(b"GET /he")
        assert HEAD_SECONDS - 0.2 < closed_after(connection) < 15


def test_a_slow_answer_is_no_slow_head(client: httpx.Client) -> None:
    data = plain()
    head = b"POST /predict HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(data)
    with closing(connect(client)) as connection:
        connection.sendall(head)
        time.sleep(HEAD_SECONDS * 1.5)
        connection.sendall(data)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_too_many_connections_are_turned_away_and_room_comes_back(client: httpx.Client) -> None:
    with ExitStack() as held:
        busy = [held.enter_context(closing(connect(client))) for _ in range(MOST + 3)]
        answers = [connection.recv(65536) for connection in busy]
        assert sum(answer.startswith(b"HTTP/1.1 503") for answer in answers) >= 3
        assert all(b"Retry-After: 1" in answer for answer in answers if answer)
    wait_until(lambda: client.get("/healthz").status_code == 200)
