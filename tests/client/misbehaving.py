"""Servers that do what the real service never does."""

from __future__ import annotations

import socketserver
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from socket import socket


def response(status: str, *headers: str, body: bytes = b"") -> bytes:
    """A whole HTTP response."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("ascii") + body


@contextmanager
def answering(*answers: bytes, stays: bool = False) -> Iterator[str]:
    """A server that gives each connection the next answer, the last one for ever; yields its address.

    An empty answer hangs up. A server that stays does not hang up behind the last one until the client does.
    """
    remaining = list(answers)

    def answer(connection: socket) -> None:
        connection.recv(65536)
        last = len(remaining) == 1
        connection.sendall(remaining[0] if last else remaining.pop(0))
        if last and stays:
            while connection.recv(65536):
                pass

    with _serving(answer) as url:
        yield url


@contextmanager
def trickling() -> Iterator[str]:
    """A server that sends a byte of its answer now and then, and never the last; yields its address."""

    def answer(connection: socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Endless: ")
        try:
            while True:
                connection.sendall(b"a")
                time.sleep(0.05)
        except OSError:  # the client has left
            return

    with _serving(answer) as url:
        yield url


@contextmanager
def _serving(answer: Callable[[socket], None]) -> Iterator[str]:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            answer(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()
