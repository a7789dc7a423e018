"""One client's connection: uvicorn's, with the limits of time and number that uvicorn lacks.

uvicorn waits for the head of a request for ever, waits for ever for a client to read its answer, and takes
any number of connections, with any number of answers that nobody reads. A client that sends one byte of a
head a minute, or never reads, on each of thousands of connections, would take every file that the process
may open (Slowloris), or all of its memory. What a request may be is told in `app.strict_http`; bodies have
their own deadline, in `app.api.upload`.
"""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar

from starlette.exceptions import HTTPException

from app.api.headers import SECURITY
from app.api.problems import problem_response
from app.api.refusals import TooManyConnections
from app.strict_http import StrictProtocol

if TYPE_CHECKING:
    import asyncio

    from app.metrics import Metrics
    from app.settings import Settings

_READ_AT_LEAST = 16 * 1024
"""Bytes of an answer that a client has to read within each `write_seconds`."""
_INTERIM = b"HTTP/1.1 1"  # as the answer to Expect: 100-continue begins, which is not yet the answer
_LAST_HEAD_SECONDS = 1.0
"""For how long a service that stops still reads from a connection: what a client has sent already, or sends
before it can know, is accepted work."""


class HeldHead:
    """What one answer is written to: its head waits for the body, and both are one write.

    uvicorn writes the head by itself. Each write is a call of the system, and wakes whoever reads it.

    Args:
        transport: of the connection.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None
        self._begun = False

    def write(self, data: bytes) -> None:
        """Write, unless it is the head."""
        if self._head is not None:
            head, self._head = self._head, None
            self._transport.writelines((head, data))
        elif self._begun or data.startswith(_INTERIM):
            self._transport.write(data)
        else:
            self._head, self._begun = data, True

    def flush(self) -> None:
        """Write a head that no body follows."""
        if self._head is not None:
            head, self._head = self._head, None
            self._transport.write(head)

    def close(self) -> None:
        """Close the connection after what has been written."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._transport.is_closing()


class Connection(StrictProtocol):
    """Closes itself when a head or the reading of an answer takes too long, or when there are too many."""

    head_seconds: ClassVar[float]
    write_seconds: ClassVar[float]
    most: ClassVar[int]
    most_unread: ClassVar[int]
    metrics: ClassVar[Metrics]

    _answer: HeldHead
    _deadline: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None
    _unread_since: float = 0.0
    _drained = False
    _stopping = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head is due from now on."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._turn_away("too_many", TooManyConnections("the service has as many connections as it takes"))
            return
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """A later head is due from its first byte on; before that, uvicorn's keep-alive limit counts."""
        super().data_received(data)
        if self.idle and not self.deaf:
            self._expect_head()

    def on_headers_complete(self) -> None:
        """No head is due, and if the service stops, none after this one."""
        self._stop_waiting()
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            self._answer = HeldHead(self.transport)
            self.cycle.transport = self._answer  # type: ignore[assignment] # all that a cycle calls
            if self._stopping:
                self.cycle.keep_alive = False

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
        self._answer.flush()
        super().on_response_complete()
        self._expect_reading()

    def shutdown(self) -> None:
        """The service stops: uvicorn would hang up on a client whose request is on its way."""
        self._stopping = True
        if self.idle:
            self.loop.call_later(_LAST_HEAD_SECONDS, super().shutdown)
        else:
            super().shutdown()

    def refuse(self) -> None:
        """What is not HTTP is answered with a problem, as every other mistake."""
        self._turn_away("not_http", HTTPException(400))

    def _turn_away(self, reason: str, error: Exception) -> None:
        """Answer with a problem what never becomes a request, or not a whole one, and close."""
        self.metrics.turned_away.labels(reason).inc()
        if not self.idle:
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
        if self.idle:
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
