"""A line between a client and the service that is slow both ways: so many bytes a second, each late.

The kernel's netem would do it too, but needs root and is not in every kernel. What it does besides, losing
packets, the drill `lossy` of `tests.faults.containers` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType

PIECE_SECONDS = 0.05
T = TypeVar("T")


class SlowLine:
    """Forwards connections to a port of this machine; each direction of each has the rate to itself.

    Args:
        port: where the service listens.
        bytes_per_second: rate.
        delay: seconds by which every byte is late.
    """

    def __init__(self, port: int, *, bytes_per_second: int, delay: float) -> None:
        self._port = port
        self._piece = max(1, round(bytes_per_second * PIECE_SECONDS))
        self._delay = delay
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._connect, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._hang_up())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[None, None, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _hang_up(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports are closed by callbacks

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port, limit=self._piece)
        carriers = [
            asyncio.create_task(self._carry(reader, back)),
            asyncio.create_task(self._carry(there, writer)),
        ]
        try:
            await asyncio.wait(carriers)
            for each in (writer, back):
                each.close()
                with contextlib.suppress(OSError):
                    await each.wait_closed()
        except (
            asyncio.CancelledError
        ):  # hung up; the streams of Python 3.11 complain of a handler that says so
            pass
        finally:
            for each in (writer, back):
                each.transport.abort()

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """Read no faster than the rate, so that the sender feels it, and write each piece late."""
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        now = asyncio.get_running_loop().time

        async def deliver() -> None:
            while True:
                due, piece = await late.get()
                await asyncio.sleep(max(0.0, due - now()))
                with contextlib.suppress(OSError):  # whoever hung up hears nothing more
                    if piece:
                        target.write(piece)
                        await target.drain()
                    else:
                        target.write_eof()
                if not piece:
                    return

        delivery = asyncio.create_task(deliver())
        try:
            piece = b"."
            while piece:
                try:
                    piece = await source.read(self._piece)
                except ConnectionError:
                    piece = b""
                late.put_nowait((now() + self._delay, piece))
                await asyncio.sleep(PIECE_SECONDS * len(piece) / self._piece)
            await delivery
        finally:
            delivery.cancel()
