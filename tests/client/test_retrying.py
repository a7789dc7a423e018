from __future__ import annotations

import socket
import threading
import time
from datetime import UTC, datetime, timedelta, tzinfo
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest
from tenacity import RetryCallState

from app.client import Client, DeadlinePassed, ServiceError, Unreachable
from app.client.retrying import FIRST_WAIT, LONGEST_WAIT, asked_to_wait, retrying
from tests.api.process import Process
from tests.client.misbehaving import answering, response, trickling
from tests.client.recording import Recording
from tests.pictures import RED, plain

if TYPE_CHECKING:
    from pathlib import Path

    from tenacity import AsyncRetrying

BUSY = response("503 Service Unavailable", "Retry-After: 1")


def at_once(client: Client, count: int) -> list[str]:
    """The dominant emotions of as many equal pictures, asked for together."""
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(client.predict(plain(RED)).dominant.emotion))
        for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_who_is_turned_away_comes_back_when_told_and_is_answered(
    crowded_url: str, recording: Recording
) -> None:
    """The service has room for one, so of four at once some are told to wait for a second."""
    with Client(crowded_url, timeout=30, retries=20, transport=recording) as client:
        assert at_once(client, 4) == ["anger"] * 4
    refused = [each for each in recording.tries if each.status == 503]
    assert refused
    assert recording.statuses.count(200) == 4
    first_refusal = min(each.ended for each in refused if each.ended is not None)
    later = [each.began for each in recording.tries[4:]]
    assert min(later) >= first_refusal + 1


def test_the_service_is_waited_for_until_it_is_up(checkpoint_path: Path, recording: Recording) -> None:
    """At first nothing listens, then the network is not warm, and in the end there is an answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started: list[Process] = []

    def start() -> None:
        started.append(Process("--checkpoint", str(checkpoint_path), "--threads", "1", "--port", str(port)))

    later = threading.Timer(0.3, start)
    later.start()
    try:
        with Client(f"http://127.0.0.1:{port}", timeout=60, retries=100, transport=recording) as client:
            assert client.predict(plain(RED)).dominant.emotion == "anger"
    finally:
        later.join()
        with started[0]:
            started[0].process.terminate()
            started[0].end()
    assert recording.statuses[0] is None  # refused
    assert recording.statuses[-1] == 200


def test_a_date_beyond_all_calendars_is_no_time_to_wait() -> None:
    given = "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"
    error = ServiceError(503, slug=None, title="", detail="", retry_after=given)
    assert asked_to_wait(error) == 0


def test_nothing_ever_listens() -> None:
    recording = Recording()
    with Client("http://127.0.0.1:1", retries=2, transport=recording) as client, pytest.raises(Unreachable):
        client.predict(plain())
    assert len(recording.tries) == 3


def test_a_connection_that_breaks_is_tried_again() -> None:
    recording = Recording()
    said = response("404 Not Found")
    with (
        answering(b"", b"", said) as url,
        Client(url, transport=recording) as client,
        pytest.raises(ServiceError, match="404"),
    ):
        client.predict(plain())
    assert recording.statuses == [None, None, 404]


@pytest.mark.parametrize(
    "status", ["400 Bad Request", "404 Not Found", "408 Request Timeout", "500 Oh", "504 Late"]
)
def test_what_the_service_means_is_not_asked_again(status: str) -> None:
    recording = Recording()
    with (
        answering(response(status, "Retry-After: 0")) as url,
        Client(url, transport=recording) as client,
        pytest.raises(ServiceError),
    ):
        client.model()
    assert len(recording.tries) == 1


@pytest.mark.parametrize("status", ["429 Too Many Requests", "502 Bad Gateway", "503 Service Unavailable"])
def test_who_stays_busy_is_asked_as_often_as_allowed(status: str) -> None:
    recording = Recording()
    with (
        answering(response(status)) as url,
        Client(url, retries=2, transport=recording) as client,
        pytest.raises(ServiceError) as raised,
    ):
        client.model()
    assert len(recording.tries) == 3
    assert raised.value.retry_after is None


def test_a_date_to_come_back_at() -> None:
    recording = Recording()
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)  # whole seconds
    with (
        answering(response("429 Too Many", f"Retry-After: {date}"), response("404 Not Found")) as url,
        Client(url, transport=recording) as client,
        pytest.raises(ServiceError, match="404"),
    ):
        client.model()
    first, second = recording.tries
    assert first.ended is not None
    assert second.began - first.ended > 0.8


def test_a_wait_that_would_end_too_late_is_not_begun() -> None:
    began = time.monotonic()
    with (
        answering(response("503 Busy", "Retry-After: 60")) as url,
        Client(url, timeout=5) as client,
        pytest.raises(ServiceError, match="503"),
    ):
        client.predict(plain())
    assert time.monotonic() - began < 3


def test_the_timeout_holds_whatever_the_network_does() -> None:
    began = time.monotonic()
    with (
        trickling() as url,
        Client(url, timeout=0.5) as client,
        pytest.raises(DeadlinePassed, match=r"0\.5 s"),
    ):
        client.predict(plain())
    assert time.monotonic() - began < 3


def test_a_timeout_tells_what_went_wrong_before() -> None:
    at_once = response("503 Service Unavailable")
    with (
        answering(at_once, b"HTTP/1.1 200 OK\r\nX-Endless: ", stays=True) as url,
        Client(url, timeout=1.9, retries=50) as client,
        pytest.raises(DeadlinePassed, match="before that: 503"),
    ):
        client.predict(plain())


def test_the_service_is_told_how_long_it_has(crowded_url: str) -> None:
    recording = Recording()
    with Client(crowded_url, timeout=30, retries=20, transport=recording) as client:
        at_once(client, 4)
    seconds = [float(each.headers["X-DeepEmotion-Timeout"]) for each in recording.tries]
    assert 29 < seconds[0] <= 30
    assert seconds[-1] < seconds[0] - 1  # the last was turned away before


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        (None, 0, 0),
        ("7", 7, 7),
        (" 7 ", 7, 7),
        ("-7", 0, 0),
        ("soon", 0, 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
    ],
)
def test_what_retry_after_means(header: str | None, least: float, most: float) -> None:
    error = ServiceError(503, slug=None, title="", detail="", retry_after=header)
    assert least <= asked_to_wait(error) <= most


@pytest.mark.parametrize("zone", [UTC, None], ids=["with a zone", "without"])
def test_retry_after_may_be_a_date(zone: tzinfo | None) -> None:
    then = datetime.now(UTC) + timedelta(hours=1)  # now, not when the tests were collected
    error = ServiceError(
        503, slug=None, title="", detail="", retry_after=format_datetime(then.replace(tzinfo=zone))
    )
    assert 3500 <= asked_to_wait(error) <= 3600


@pytest.mark.parametrize("header", [None, "3"])
def test_waits_are_random_grow_and_are_never_shorter_than_asked(header: str | None) -> None:
    policy = retrying(50, 1e9)
    error = ServiceError(503, slug=None, title="", detail="", retry_after=header)
    asked = float(header or 0)
    for number, longest in ((1, FIRST_WAIT), (2, 2 * FIRST_WAIT), (3, 4 * FIRST_WAIT), (20, LONGEST_WAIT)):
        waits = [wait_after(policy, number, error) for _ in range(300)]
        assert asked <= min(waits) < asked + longest / 4
        assert asked + longest * 3 / 4 < max(waits) <= asked + longest


def wait_after(policy: AsyncRetrying, number: int, error: Exception) -> float:
    """Seconds that the policy waits after a try of this number."""
    state = RetryCallState(policy, None, (), {})
    state.attempt_number = number
    state.set_exception((type(error), error, None))
    assert policy.wait is not None
    return float(policy.wait(state))
