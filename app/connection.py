"""One client's connection: uvicorn's, with the five limits that uvicorn lacks.

uvicorn waits for the head of a request for ever, waits for ever for a client to read its answer, and takes
any number of connections, with any number of answers that nobody reads. A client that sends one byte of a
head a minute, or never reads, on each of thousands of connections, would take every file that the process
may open (Slowloris), or all of its memory. And it parses a body in chunks of one byte each for as long as
they come, in which time nobody else is served. Bodies have their own deadline, in `app.api.upload`.
"""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar

import h11
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.api.headers import SECURITY
from app.api.problems import problem_response
from app.api.refusals import TooManyConnections

if TYPE_CHECKING:
    import asyncio

    from app.metrics import Metrics
    from app.settings import Settings

_READ_AT_LEAST = 16 * 1024
"""Bytes of an answer that a client has to read within each `write_seconds`."""
_FEW_CHUNKS = 1000
_SMALL_CHUNK = 256
"""Bytes. A chunk takes h11 the time of thousands of bytes, however small it is, so beyond a few chunks they
must be so large on average; HTTP libraries make them of kilobytes."""


class _Parser(h11.Connection):
    """h11's parser of HTTP, which refuses a body of crumbs."""

    _chunks = _bytes = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        """What h11 makes of the bytes that have come.

        Raises:
            RemoteProtocolError: it is not HTTP, or a body in more chunks than it needs.
        """
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._bytes = 0
        elif isinstance(event, h11.Data):
            self._chunks += event.chunk_end
            self._bytes += len(event.data)
            if self._chunks > _FEW_CHUNKS and self._bytes < self._chunks * _SMALL_CHUNK:
                raise h11.RemoteProtocolError("the chunks of the body are too small")
        return event


class Connection(H11Protocol):
    """Closes itself when a head or the reading of an answer takes too long, or when there are too many."""

    head_seconds: ClassVar[float]
    write_seconds: ClassVar[float]
    most: ClassVar[int]
    most_unread: ClassVar[int]
    metrics: ClassVar[Metrics]

    _deadline: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None
    _unread_since: float = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head is due from now on."""
        super().connection_made(transport)
        self.conn = _Parser(h11.SERVER)
        if len(self.connections) > self.most:
            self._turn_away("too_many", TooManyConnections("the service has as many connections as it takes"))
            return
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """A later head is due from its first byte on; before that, uvicorn's keep-alive limit counts."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._deadline is None:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        self._stop_waiting()
        if self._reading is not None:
            self._reading.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """So much is unread that the kernel takes no more."""
        super().pause_writing()
        self._expect_reading()

    def on_response_complete(self) -> None:
        """What is written need not be read yet, and closing would wait for that."""
        super().on_response_complete()
        self._expect_reading()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - ours says it as every other error is said
        """What is not HTTP is answered with a problem, as every other mistake."""
        self._turn_away("not_http", HTTPException(400))

    def _turn_away(self, reason: str, error: Exception) -> None:
        """Answer with a problem what never becomes a request, and close."""
        self.metrics.turned_away.labels(reason).inc()
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:  # an answer has begun, so none fits
            self.transport.close()
            return
        request_id = uuid.uuid4().hex
        problem = problem_response(error, request_id)
        headers = [*problem.raw_headers, (b"x-request-id", request_id.encode()), (b"connection", b"close")]
        headers += [(name.lower().encode(), value.encode()) for name, value in SECURITY.items()]
        status = HTTPStatus(problem.status_code)
        for event in (
            h11.Response(status_code=status, headers=headers, reason=status.phrase.encode()),
            h11.Data(data=bytes(problem.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
        self._expect_reading()

    def _expect_head(self) -> None:
        self._deadline = self.loop.call_later(self.head_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if self.conn.their_state is h11.IDLE:
            self.metrics.turned_away.labels("slow_head").inc()
            self.transport.close()

    def _expect_reading(self) -> None:
        if self._reading is None and (unread := self.transport.get_write_buffer_size()):
            self._reading = self.loop.call_later(self.write_seconds, self._look, unread, self.cycle)
            self._unread_since = self.loop.time()
        if self._reading is not None:
            self._make_room()

    def _make_room(self) -> None:
        """All that is unread together has a bound; who was longest given an answer loses it."""
        alike = [each for each in self.connections if isinstance(each, Connection)]
        unread = {each: each.transport.get_write_buffer_size() for each in alike}
        total = sum(unread.values())
        for each in sorted(alike, key=lambda one: one._unread_since):  # noqa: SLF001 - they are alike
            if total <= self.most_unread:
                return
            if unread[each]:
                self.metrics.turned_away.labels("slow_reading").inc()
                each.transport.abort()
                total -= unread[each]

    def _look(self, before: int, cycle: object) -> None:
        """Has enough been read? A later answer than the one that was looked at adds to what is unread."""
        self._reading = None
        unread = self.transport.get_write_buffer_size()
        if cycle is self.cycle and unread > max(0, before - _READ_AT_LEAST):
            self.metrics.turned_away.labels("slow_reading").inc()
            self.transport.abort()
        else:
            self._expect_reading()


def proxy_options(settings: Settings) -> dict[str, Any]:
    """What uvicorn is to believe of proxies; by itself it believes any process of this machine."""
    return {
        "proxy_headers": bool(settings.trusted_proxies),
        "forwarded_allow_ips": settings.trusted_proxies,
    }


def connection_class(settings: Settings, metrics: Metrics) -> type[Connection]:
    """The class that uvicorn is to make a connection of, with the limits of the settings.

    Args:
        settings: the limits.
        metrics: count the connections that are turned away; none of them becomes a request.
    """
    attributes = {
        "head_seconds": settings.head_seconds,
        "write_seconds": settings.write_seconds,
        "most": settings.max_connections,
        "most_unread": settings.unread_memory_bytes,
        "metrics": metrics,
    }
    return type("Connection", (Connection,), attributes)
