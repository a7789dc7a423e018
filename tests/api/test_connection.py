"""Connections that are slow to ask or to read, many, or not HTTP (Slowloris)."""

from __future__ import annotations

import json
import socket
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPResponse
from typing import TYPE_CHECKING

import httpx
import pytest
from starlette.responses import StreamingResponse

from app.api.headers import SECURITY
from app.connection import HeldHead
from app.main import create_app
from app.metrics import TURNED_AWAY
from tests.api.serving import service, serving, slug, wait_until
from tests.api.test_metrics import samples
from tests.pictures import encoded, noise, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from app.settings import Settings

HEAD_SECONDS = 1.0
WRITE_SECONDS = 1.0
MOST = 12


@pytest.fixture
def client(base_settings: Settings) -> Iterator[httpx.Client]:
    limits = {"head_seconds": HEAD_SECONDS, "write_seconds": WRITE_SECONDS, "max_connections": MOST}
    with service(base_settings.model_copy(update=limits)) as client:
        yield client


def connect(client: httpx.Client) -> socket.socket:
    return socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=20)


def read_answer(connection: socket.socket) -> None:
    """All of it: head and body may come in two pieces."""
    answer = HTTPResponse(connection)
    answer.begin()
    assert answer.status == 200
    answer.read()


def read_to_the_end(connection: socket.socket) -> bytes:
    answer = b""
    with suppress(ConnectionResetError):  # what was sent and not read is answered so
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def problem_in(answer: bytes) -> tuple[bytes, dict[str, object]]:
    """Head and body of an answer that must be a problem in every respect."""
    head, _, body = answer.partition(b"\r\n\r\n")
    problem: dict[str, object] = json.loads(body)
    assert b"content-type: application/problem+json" in head
    assert f"x-request-id: {problem['request_id']}".encode() in head
    assert all(f"{name.lower()}: {value}".encode() in head for name, value in SECURITY.items())
    return head, problem


def turned_away(client: httpx.Client) -> dict[str, float]:
    """How many connections the service has counted as turned away, by reason."""
    counted = {
        key: count for key, count in samples(client).items() if key[0] == "deepemotion_turned_away_total"
    }
    assert {labels for _, labels in counted} == {(("reason", reason),) for reason in TURNED_AWAY}
    return {labels[0][1]: count for (_, labels), count in counted.items() if count}


def requests_of(app: FastAPI) -> list[Scope]:
    """A list that grows by each request when it has been answered."""
    seen: list[Scope] = []

    class See:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await self.app(scope, receive, send)
            if scope["type"] == "http":
                seen.append(scope)

    app.add_middleware(See)
    return seen


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
    assert turned_away(client) == {"slow_head": 1}


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
            read_answer(connection)
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
        answers = [read_to_the_end(connection) for connection in busy]
    refusals = [answer for answer in answers if answer]  # the others are closed, as they never ask
    assert len(refusals) >= 3
    for answer in refusals:
        head, problem = problem_in(answer)
        assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"retry-after: 1" in head
        assert problem["type"] == "urn:deepemotion:problem:too-many-connections"
        assert problem["status"] == 503
    wait_until(lambda: client.get("/healthz").status_code == 200)
    assert turned_away(client)["too_many"] == len(refusals)


def test_a_client_that_is_turned_away_while_it_asks_is_told_so(client: httpx.Client) -> None:
    # Not idle ones: those are closed after HEAD_SECONDS, and then there is room again.
    unfinished = b"POST /predict HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\n"
    with ExitStack() as held:
        for _ in range(2 * MOST):  # more than fit, as one that has left counts until its end is seen
            connection = held.enter_context(closing(connect(client)))
            connection.sendall(unfinished)
            answer = httpx.post(client.base_url.join("/predict"), content=plain(), timeout=20)
            if answer.status_code != 200:
                break
        assert (answer.status_code, slug(answer)) == (503, "too-many-connections")
        assert answer.headers["retry-after"] == "1"


CHUNKED = b"POST /predict HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_a_body_of_crumbs_is_refused_while_others_are_served(client: httpx.Client) -> None:
    with closing(connect(client)) as connection:
        connection.sendall(CHUNKED)
        began = time.monotonic()
        try:
            for _ in range(100):  # seconds of the parser's time
                connection.sendall(b"1\r\nx\r\n" * 10_000)
                assert client.post("/predict", content=plain()).status_code == 200
        except OSError:  # reset or broken pipe, as the moment has it
            pass
        else:
            pytest.fail("all of it was read")
        assert time.monotonic() - began < 5
    with closing(connect(client)) as connection:
        connection.sendall(CHUNKED + b"1\r\nx\r\n" * 1001)
        head, problem = problem_in(read_to_the_end(connection))
    assert head.startswith(b"HTTP/1.1 400 ")
    assert problem["type"] == "urn:deepemotion:problem:bad-request"


def test_a_picture_in_a_few_small_chunks_is_read(client: httpx.Client) -> None:
    data = plain()
    assert 100 < len(data) < 1000
    answer = client.post("/predict", content=(data[at : at + 1] for at in range(len(data))))
    assert answer.status_code == 200


@pytest.mark.parametrize("head", [b"GET /" + b"a" * 70_000, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000])
def test_a_head_that_is_too_long_is_refused(client: httpx.Client, head: bytes) -> None:
    with closing(connect(client)) as connection:
        connection.sendall(head)
        assert read_to_the_end(connection).startswith(b"HTTP/1.1 400 ")


LARGE = 40_000_000  # bytes: more than the kernel keeps for who does not read


@contextmanager
def with_large(settings: Settings) -> Iterator[httpx.Client]:
    """The service with an answer that is larger than any of its own, in pieces."""
    app = create_app(settings)

    async def large(_request: Request) -> StreamingResponse:
        return StreamingResponse(bytes(65536) for _ in range(LARGE // 65536))

    app.add_route("/large", large)
    with serving(app, settings) as client:
        yield client


def reader_of_little(client: httpx.Client) -> socket.socket:
    """A connection that has asked for tens of megabytes, with room for a few kilobytes of them."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(20)
    connection.connect((client.base_url.host, client.base_url.port or 80))
    connection.sendall(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n")
    return connection


def read_until_reset(connection: socket.socket, pause: float = 0.0) -> int:
    total = 0
    try:
        while chunk := connection.recv(65536):
            total += len(chunk)
            time.sleep(pause)
    except ConnectionResetError:
        pass
    return total


def test_a_client_that_never_reads_is_cut_off_while_others_are_served(base_settings: Settings) -> None:
    limits = {"write_seconds": WRITE_SECONDS}
    with (
        with_large(base_settings.model_copy(update=limits)) as client,
        closing(reader_of_little(client)) as connection,
    ):
        for _ in range(4):
            assert client.post("/predict", content=plain()).status_code == 200
            time.sleep(WRITE_SECONDS)
        assert read_until_reset(connection) < LARGE
        assert turned_away(client) == {"slow_reading": 1}


def test_unread_answers_have_a_bound(base_settings: Settings) -> None:
    limits = {"unread_memory_bytes": 300_000}  # each of them makes uvicorn hold between 64 and 128 KiB
    with with_large(base_settings.model_copy(update=limits)) as client, ExitStack() as open_ones:
        readers = [open_ones.enter_context(closing(reader_of_little(client))) for _ in range(6)]
        wait_until(lambda: turned_away(client).get("slow_reading", 0) >= 1, seconds=10)
        assert client.post("/predict", content=plain()).status_code == 200
        assert any(read_until_reset(each) < LARGE for each in readers)


def test_a_client_that_reads_slowly_is_borne_with(base_settings: Settings) -> None:
    limits = {"write_seconds": WRITE_SECONDS}
    with (
        with_large(base_settings.model_copy(update=limits)) as client,
        closing(reader_of_little(client)) as connection,
    ):
        end = time.monotonic() + 4 * WRITE_SECONDS
        while time.monotonic() < end:
            assert connection.recv(65536)
            time.sleep(0.01)


@pytest.mark.parametrize(
    "sent", [b"hello\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n", b"\x16\x03\x01\r\n\r\n"]
)
def test_what_is_not_http_is_answered_with_a_problem(client: httpx.Client, sent: bytes) -> None:
    with closing(connect(client)) as connection:
        connection.sendall(sent)
        head, problem = problem_in(read_to_the_end(connection))
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\ncontent-")
    assert problem["type"] == "urn:deepemotion:problem:bad-request"
    assert turned_away(client) == {"not_http": 1}


def exchange(client: httpx.Client, *sent: bytes) -> bytes:
    """All that the service says to these bytes, one piece after the other, until it closes."""
    with closing(connect(client)) as connection:
        for piece in sent:
            connection.sendall(piece)
            time.sleep(0.05)
        return read_to_the_end(connection)


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: test\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /healthz HTTP/1.1\r\n\r\n",  # of which host?
        HEALTH + b"Host: other\r\n\r\n",
        HEALTH.replace(b"1.1", b"2.0") + b"\r\n",
        HEALTH.replace(b"GET", b"BREW") + b"\r\n",
        b"GET healthz HTTP/1.1\r\nHost: test\r\n\r\n",
        b"CONNECT test:80 HTTP/1.1\r\nHost: test:80\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        CHUNKED.replace(b"Host", b"Content-Length: 4\r\nHost") + b"0\r\n\r\n",
        CHUNKED.replace(b"chunked", b"gzip, chunked") + b"0\r\n\r\n",
        CHUNKED + b"5\r\nabcdefgh\r\n",  # longer than it says
        CHUNKED + b"1\r\na\r\n0\r\n" + b"X: y\r\n" * 20_000,  # trailers are a head too
    ],
)
def test_a_request_that_may_be_read_in_two_ways_is_refused(client: httpx.Client, sent: bytes) -> None:
    head, problem = problem_in(exchange(client, sent))
    assert head.startswith(b"HTTP/1.1 400 ")
    assert problem["type"] == "urn:deepemotion:problem:bad-request"
    assert turned_away(client) == {"not_http": 1}


@pytest.mark.parametrize(
    "begun",
    [HEALTH + b"X: ", CHUNKED + b"1\r\na\r\n0\r\nX: ", CHUNKED + b"1;", CHUNKED + b"0", HEALTH[:-2]],
    ids=["header", "trailer", "extension of a chunk", "size of a chunk", "target"],
)
def test_what_has_no_end_is_refused_however_it_comes(client: httpx.Client, begun: bytes) -> None:
    more = begun[-1:] if begun.endswith(b"0") else b"x"
    assert exchange(client, begun, *([more * 30_000] * 3)).startswith(b"HTTP/1.1 400 ")


def test_lines_without_a_request_are_no_way_to_stay(client: httpx.Client) -> None:
    assert exchange(client, *([b"\r\n" * 15_000] * 3)).startswith(b"HTTP/1.1 400 ")
    with closing(connect(client)) as connection:
        connection.sendall(HEALTH + b"\r\n")
        read_answer(connection)
        connection.sendall(b"\r\n")
        assert HEAD_SECONDS - 0.2 < closed_after(connection) < 15


def test_a_head_in_two_pieces_with_a_large_body_behind_is_read(client: httpx.Client) -> None:
    data = encoded(noise((300, 300)))
    assert len(data) > 100_000
    with closing(connect(client)) as connection:
        connection.sendall(b"POST /predict HT")
        time.sleep(0.05)
        connection.sendall(b"TP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
        read_answer(connection)


@pytest.mark.parametrize("more", [b"rubbish\r\n\r\n", HEALTH + b"\r\n", (HEALTH + b"\r\n") * 10_000])
def test_what_comes_before_the_answer_does_not_cost_it(client: httpx.Client, more: bytes) -> None:
    data = plain()
    request = b"POST /predict HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(data) + data
    answer = exchange(client, request + more)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nconnection: close\r\n" in answer
    assert answer.count(b"HTTP/1.1") == 1
    assert turned_away(client) == {}


OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAA\r\n"


def test_the_offer_of_another_protocol_is_passed_over(client: httpx.Client) -> None:
    # Java's client makes it with its first request.
    data = plain()
    head = b"POST /predict HTTP/1.1\r\nHost: test\r\n" + OFFER + b"Content-Length: %d\r\n\r\n" % len(data)
    with closing(connect(client)) as connection:
        for cut in (30, 90, len(head) - 2, len(head), len(head) + 10):
            connection.sendall((head + data)[:cut])
            time.sleep(0.05)
            connection.sendall((head + data)[cut:])
            read_answer(connection)
            connection.sendall(HEALTH + OFFER + b"\r\n")
            read_answer(connection)
    assert exchange(client, (HEALTH + OFFER + b"\r\n") * 3000).count(b"HTTP/1.1") == 1


def test_headers_are_as_they_were_meant(base_settings: Settings) -> None:
    app = create_app(base_settings)
    seen = requests_of(app)
    data = plain()
    with serving(app, base_settings) as client:
        chunk = b"%x\r\n%s\r\n0\r\n" % (len(data), data)
        asked = CHUNKED.replace(b"Host", b"Connection: close\r\nX-Request-ID:  mine \t\r\nHost")
        answer = exchange(client, asked + chunk + b"X-Late: 1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nx-request-id: mine\r\n" in answer
    headers = dict(seen[-1]["headers"])
    assert headers[b"x-request-id"] == b"mine"
    assert b"x-late" not in headers  # it came behind the body, when the headers had been looked at


def test_an_old_client_hears_nothing_before_the_answer(client: httpx.Client) -> None:
    data = plain()
    head = b"POST /predict HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(data)
    assert exchange(client, head + data).startswith(b"HTTP/1.1 200 ")


def test_nobody_is_believed_about_whom_a_request_comes_from(base_settings: Settings) -> None:
    app = create_app(base_settings)
    seen = requests_of(app)
    for trusted in ("", "127.0.0.1"):
        settings = base_settings.model_copy(update={"trusted_proxies": trusted})
        with serving(app, settings, wait_for_warmth=False) as client:
            client.get("/healthz", headers={"X-Forwarded-For": "203.0.113.7"})
    assert [scope["client"][0] for scope in seen if scope["path"] == "/healthz"] == [
        "127.0.0.1",
        "203.0.113.7",
    ]


class Written:
    """A transport that notes its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[bytes, ...] | str] = []

    def write(self, data: bytes) -> None:
        self.calls.append((data,))

    def writelines(self, several: tuple[bytes, ...]) -> None:
        self.calls.append(several)

    def close(self) -> None:
        self.calls.append("close")

    def is_closing(self) -> bool:
        return "close" in self.calls


@pytest.mark.parametrize(
    ("parts", "calls"),
    [
        ([b"HTTP/1.1 200 OK", b"all"], [(b"HTTP/1.1 200 OK", b"all")]),
        ([b"HTTP/1.1 200 OK", b"a", b"b"], [(b"HTTP/1.1 200 OK", b"a"), (b"b",)]),
        (
            [b"HTTP/1.1 100 Continue", b"HTTP/1.1 200 OK"],
            [(b"HTTP/1.1 100 Continue",), (b"HTTP/1.1 200 OK",)],
        ),
        ([b"HTTP/1.1 200 OK"], [(b"HTTP/1.1 200 OK",)]),  # as of HEAD
        ([], []),
    ],
)
def test_the_head_of_an_answer_is_written_with_its_body(parts: list[bytes], calls: list[object]) -> None:
    written = Written()
    answer = HeldHead(written)  # type: ignore[arg-type] # all that it calls
    for part in parts:
        answer.write(part)
    assert not answer.is_closing()
    answer.close()
    assert answer.is_closing()
    assert written.calls == [*calls, "close"]


def test_the_head_of_an_answer_without_a_body_is_not_waited_for(client: httpx.Client) -> None:
    with connect(client) as connection:
        connection.sendall(b"HEAD /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
        answer = HTTPResponse(connection, method="HEAD")
        answer.begin()
        assert answer.status == 200
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
        read_answer(connection)


def test_a_connection_without_a_request_is_kept_as_long_as_it_is_set(base_settings: Settings) -> None:
    settings = base_settings.model_copy(update={"keep_alive_seconds": 1.0})
    with service(settings) as client, connect(client) as waiting:
        waiting.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
        began = time.monotonic()
        while waiting.recv(65536):
            pass
        assert 0.9 < time.monotonic() - began < 4  # without the setting it would be 5
