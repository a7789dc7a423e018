"""The slow line of the drill is as slow as it says, and loses nothing."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from tests.faults.slow_line import SlowLine


def test_every_byte_arrives_late_and_no_faster_than_the_rate() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        received = []

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while piece := connection.recv(65536):
                    received.append(piece)
                connection.sendall(b"thanks")

        thread = threading.Thread(target=serve)
        thread.start()
        sent = bytes(range(250)) * 80
        with SlowLine(server.getsockname()[1], bytes_per_second=40_000, delay=0.2) as line:
            began = time.monotonic()
            port = int(line.url.rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(sent)
                client.shutdown(socket.SHUT_WR)
                assert client.recv(100) == b"thanks"
            took = time.monotonic() - began
        thread.join()
    assert b"".join(received) == sent
    assert took > 0.2 + len(sent) / 40_000 * 0.8


def hang_up(server: socket.socket) -> None:
    connection, _ = server.accept()
    connection.close()


def test_a_service_that_hangs_up_is_told_to_the_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=hang_up, args=[server])
        thread.start()
        with SlowLine(server.getsockname()[1], bytes_per_second=1_000_000, delay=0) as line:
            port = int(line.url.rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                try:
                    assert client.recv(100) == b""
                except ConnectionResetError:
                    pytest.fail("the line broke instead of closing")
        thread.join()
