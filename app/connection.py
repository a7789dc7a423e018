"""One client's connection: uvicorn's, with the six limits that uvicorn lacks.

uvicorn waits for the head of a request for ever and reads all of it, however long, waits for ever for a
client to read its answer, and takes any number of connections, with any number of answers that nobody reads.
A client that sends one byte of a head a minute, or never reads, on each of thousands of connections, would
take every file that the process may open (Slowloris), or all of its memory. And it reads a body in chunks of
one byte each for as long as they come, in which time nobody else is served. Bodies have their own deadline,
in `app.api.upload`.

Its parser is llhttp (httptools), since one that is written in Python takes a fifth of the event loop's time
when most requests are refused. What llhttp lets through and nobody should send is refused here; a request
that offers another protocol, as the first of Java's client does, is read as if it did not; and who asks again
before the answer has come is answered once, and the connection closed, so that no requests wait uncounted.
"""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.headers import SECURITY
from app.api.problems import problem_response
from app.api.refusals import TooManyConnections

if TYPE_CHECKING:
    import asyncio

    from app.metrics import Metrics
    from app.settings import Settings

_LONGEST_HEAD = 64 * 1024
"""Bytes; so much may also come of anything else before the parser has told of it."""
_READ_AT_LEAST = 16 * 1024
"""Bytes of an answer that a client has to read within each `write_seconds`."""
_FEW_CHUNKS = 1000
_SMALL_CHUNK = 256
"""Bytes. A chunk takes several calls of Python, however small it is, so beyond a few chunks they must be so
large on average; HTTP libraries make them of kilobytes."""


class NotHttp(Exception):
    """What the parser lets through and we do not; raised within it, it comes out as `HttpParserError`."""


class Connection(HttpToolsProtocol):
    """Closes itself when a head or the reading of an answer takes too long, or when there are too many."""

    head_seconds: ClassVar[float]
    write_seconds: ClassVar[float]
    most: ClassVar[int]
    most_unread: ClassVar[int]
    metrics: ClassVar[Metrics]

    _in_head = _deaf = False
    _head = _chunks = _body = 0  # of the request that is read; trailers count as its head
    _silent = 0  # bytes that the parser has read without telling of anything
    _drained = False

    _deadline: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None
    _unread_since: float = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head is due from now on."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._turn_away("too_many", TooManyConnections("the service has as many connections as it takes"))
            return
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """A later head is due from its first byte on; before that, uvicorn's keep-alive limit counts."""
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        self._silent += len(data)
        try:
            self._parse(data)
            self._listen()
        except (HttpParserError, NotHttp):
            self._deaf = True
            if self._idle or self.cycle.more_body:
                self._turn_away("not_http", HTTPException(400))
            else:  # it came before the answer to a whole request
                self.cycle.keep_alive = False
        else:
            if self._idle:
                self._expect_head()

    def on_message_begin(self) -> None:
        """A request begins.

        Raises:
            NotHttp: there is one before it that has no answer yet.
        """
        if not self._idle:
            raise NotHttp
        super().on_message_begin()
        self._in_head = True
        self._head = self._chunks = self._body = self._silent = 0

    def on_url(self, url: bytes) -> None:
        """A part of the request's target."""
        self._lengthen(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; those after a body are not kept, since the application may have looked already."""
        self._lengthen(len(name) + len(value) + len(b": \r\n"))
        if self._in_head:
            super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """The head is whole.

        Raises:
            NotHttp: of another version than 1.0 and 1.1, of no or several hosts, coded, or for a tunnel.
        """
        self._in_head = False
        self._silent = 0
        self._stop_waiting()
        version = self.parser.get_http_version()
        hosts = sum(name == b"host" for name, _ in self.headers)
        codings = {value.lower() for name, value in self.headers if name == b"transfer-encoding"}
        if (
            version not in {"1.0", "1.1"}
            or hosts > 1
            or (version == "1.1" and not hosts)
            or not codings <= {b"chunked"}
            or self.parser.get_method() == b"CONNECT"
        ):
            raise NotHttp
        if version == "1.0":
            self.expect_100_continue = False  # it knows of no answers before the answer
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._body += len(body)
        self._silent = 0
        super().on_body(body)

    def on_chunk_complete(self) -> None:
        """The end of one chunk of a body whose length was not announced.

        Raises:
            NotHttp: they are crumbs.
        """
        self._chunks += 1
        self._silent = 0
        if self._chunks > _FEW_CHUNKS and self._body < self._chunks * _SMALL_CHUNK:
            raise NotHttp

    def on_message_complete(self) -> None:
        """The end of the body, unless the parser believes that another protocol begins."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

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

    def resume_writing(self) -> None:
        """So much has been read that the kernel takes more."""
        super().resume_writing()
        self._drained = True

    def on_response_complete(self) -> None:
        """What is written need not be read yet, and closing would wait for that."""
        super().on_response_complete()
        self._expect_reading()

    @property
    def _idle(self) -> bool:
        """Whether every request whose head has come is answered."""
        return self.cycle is None or self.cycle.response_complete

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            offered = {b"upgrade", b"http2-settings"}
            kept = [b"%s: %s\r\n" % header for header in self.headers if header[0] not in offered]
            first = b"%s %s HTTP/%s\r\n" % (
                self.parser.get_method(),
                self.url,
                self.parser.get_http_version().encode(),
            )
            self.parser = HttpRequestParser(self)
            self._parse(b"".join([first, *kept, b"\r\n", data[upgrade.args[0] :]]))

    def _listen(self) -> None:
        if (
            self._silent > _LONGEST_HEAD
        ):  # a header without an end, or a size of a chunk, or nothing but lines
            raise NotHttp

    def _lengthen(self, size: int) -> None:
        self._silent = 0
        self._head += size
        if self._head > _LONGEST_HEAD:
            raise NotHttp

    def _turn_away(self, reason: str, error: Exception) -> None:
        """Answer with a problem what never becomes a request, or not a whole one, and close."""
        self.metrics.turned_away.labels(reason).inc()
        if not self._idle:
            if self.cycle.response_started:
                self.cycle.keep_alive = False
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        request_id = uuid.uuid4().hex
        problem = problem_response(error, request_id)
        headers = [*problem.raw_headers, (b"x-request-id", request_id.encode()), (b"connection", b"close")]
        headers += [(name.lower().encode(), value.encode()) for name, value in SECURITY.items()]
        status = HTTPStatus(problem.status_code)
        first = f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
        lines = b"".join(b"%s: %s\r\n" % header for header in headers)
        self.transport.write(first + lines + b"\r\n" + bytes(problem.body))
        self.transport.close()
        self._expect_reading()

    def _expect_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.head_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if self._idle:
            self.metrics.turned_away.labels("slow_head").inc()
            self.transport.close()

    def _expect_reading(self) -> None:
        if self._reading is None and (unread := self.transport.get_write_buffer_size()):
            self._reading = self.loop.call_later(self.write_seconds, self._look, unread, self.cycle)
            self._unread_since = self.loop.time()
            self._drained = False
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
        """Has enough been read? A later part of the answer, or a later answer, adds to what is unread."""
        self._reading = None
        unread = self.transport.get_write_buffer_size()
        stuck = cycle is self.cycle and not self._drained
        if stuck and unread > max(0, before - _READ_AT_LEAST):
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
