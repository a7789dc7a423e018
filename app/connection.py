"""One client's connection: uvicorn's, with the two limits that uvicorn lacks.

uvicorn waits for the head of a request for ever, and takes any number of connections. A client that sends
one byte of a head a minute, on each of thousands of connections, would take every file that the process may
open (Slowloris). Bodies have their own deadline, in `app.api.upload`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

    from app.settings import Settings

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)


class Connection(H11Protocol):
    """Closes itself when a request's head is not there in time, or when there are too many already."""

    head_seconds: ClassVar[float]
    most: ClassVar[int]

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head is due from now on."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.write(_FULL)
            transport.close()
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
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._deadline = self.loop.call_later(self.head_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if self.conn.their_state is h11.IDLE:
            self.transport.close()


def connection_class(settings: Settings) -> type[Connection]:
    """The class that uvicorn is to make a connection of, with the limits of the settings."""
    limits = {"head_seconds": settings.head_seconds, "most": settings.max_connections}
    return type("Connection", (Connection,), limits)
