"""One HTTP/1.1 connection that costs next to nothing, so that the load generator is not what is measured.

A raw socket carries the bytes and h11 parses the answer. A general client copies a body of four megabytes
several times and cannot be told to hang up in the middle of a request.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import h11

if TYPE_CHECKING:
    from collections.abc import Sequence

CHUNK = 256 * 1024


class ClosedByServer(Exception):
    """The connection ended before an answer came, as an idle one may at any time."""


@dataclass(frozen=True)
class Answer:
    """What a server said.

    Attributes:
        headers: names in lower case.
    """

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """To one server; any number of requests, one after the other.

    Attributes:
        usable: whether another request may be sent over it.
        sent: whether the whole of the last request has left.
    """

    def __init__(self, host: str, port: int) -> None:
        self.usable = False
        self.sent = False
        self._connected = False
        self._address = (host, port)
        self._http = h11.Connection(h11.CLIENT)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)

    def close(self) -> None:
        """Hang up, whatever is under way."""
        self.usable = False
        self._socket.close()

    def still_open(self) -> bool:
        """Whether an idle connection can be used again; a server closes it when it has been idle for long."""
        if not self.usable:
            return False
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        self.close()
        return False

    async def exchange(self, method: str, path: str, body: bytes = b"", content_type: str = "") -> Answer:
        """Send one request and await its whole answer, which may come before all has been sent.

        Connects first if need be.

        Raises:
            ClosedByServer: no answer came.
            OSError, h11.RemoteProtocolError: the connection failed.
        """
        if not self._connected:
            await self._connect()
        headers = [("Host", "{}:{}".format(*self._address))]
        if body:
            headers += [("Content-Length", str(len(body))), ("Content-Type", content_type)]
        request = h11.Request(method=method, target=path, headers=headers)
        parts = [self._http.send(request)]
        if body:
            parts.append(self._http.send(h11.Data(data=body)))
        self._http.send(h11.EndOfMessage())
        self.sent, self.usable = False, False
        sending = asyncio.create_task(self._send(parts))
        try:
            answer = await self._receive()
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError, OSError):  # if it matters, no answer came either
                await sending
        if self.sent and self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self.usable = True
        else:
            self.close()
        return answer

    async def _connect(self) -> None:
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(self._socket, self._address)
        self._connected = True

    async def _send(self, parts: Sequence[bytes | None]) -> None:
        loop = asyncio.get_running_loop()
        for part in parts:
            if part:
                await loop.sock_sendall(self._socket, part)
        self.sent = True

    async def _receive(self) -> Answer:
        loop = asyncio.get_running_loop()
        status, headers, body = 0, {}, bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                data = await loop.sock_recv(self._socket, CHUNK)
                if not data and not status:
                    raise ClosedByServer
                self._http.receive_data(data)
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return Answer(status, headers, bytes(body))
