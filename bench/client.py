"""One HTTP/1.1 connection that costs next to nothing, so that the load generator is not what is measured.

httptools, llhttp's parser, reads the answer. A general client copies a body of four megabytes several times
and cannot be told to hang up in the middle of a request.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

from httptools import HttpParserError, HttpResponseParser


class ClosedByServer(Exception):
    """The connection ended before an answer came, as an idle one may at any time."""


class NotHttp(Exception):
    """The answer is none that HTTP knows."""


@dataclass(frozen=True)
class Answer:
    """What a server said.

    Attributes:
        headers: names in lower case.
    """

    status: int
    headers: dict[str, str]
    body: bytes


class Connection(asyncio.Protocol):
    """To one server; any number of requests, one after the other.

    Attributes:
        usable: whether another request may be sent over it.
    """

    def __init__(self, host: str, port: int) -> None:
        self.usable = False
        self._stays = False
        self._address = (host, port)
        self._transport: asyncio.WriteTransport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._parser = HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body = bytearray()

    @property
    def sent(self) -> bool:
        """Whether the whole of the last request has left."""
        return self._transport is not None and not self._transport.get_write_buffer_size()

    def close(self) -> None:
        """Hang up, whatever is under way."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    async def exchange(self, method: str, path: str, body: bytes = b"", content_type: str = "") -> Answer:
        """Send one request and await its whole answer, which may come before all has been sent.

        Connects first if need be.

        Raises:
            ClosedByServer: no answer came.
            NotHttp: what came is none.
            OSError: the connection failed.
        """
        loop = asyncio.get_running_loop()
        if self._transport is None:
            await loop.create_connection(lambda: self, *self._address)
        assert self._transport is not None  # noqa: S101 - connection_made has been called
        self.usable = False
        self._answer = loop.create_future()
        self._headers, self._body, self._parser = {}, bytearray(), HttpResponseParser(self)
        head = [f"{method} {path} HTTP/1.1", "Host: {}:{}".format(*self._address)]
        if body:
            head += [f"Content-Length: {len(body)}", f"Content-Type: {content_type}"]
        self._transport.write("\r\n".join((*head, "", "")).encode())
        if body:
            self._transport.write(body)
        answer = await self._answer
        self.usable = self.sent and self._stays and not self._transport.is_closing()
        if not self.usable:
            self.close()
        return answer

    # What asyncio tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Requests can be sent."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's own classes have no such base

    def data_received(self, data: bytes) -> None:
        """Some of the answer."""
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            self._fail(NotHttp(str(error)))

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more will come."""
        self.usable = False
        self._fail(exc or ClosedByServer())

    # What the parser tells.

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of the answer's headers."""
        self._headers[name.decode().lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Some of the answer's body."""
        self._body += body

    def on_message_complete(self) -> None:
        """The answer is whole; the parser forgets at once whether the connection stays."""
        self._stays = self._parser.should_keep_alive()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Answer(self._parser.get_status_code(), self._headers, bytes(self._body)))

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
