"""Threads for decoding and drawing, with a short line before them and a deadline on each piece of work."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from app.api.refusals import Busy
from app.engine import DeadlinePassed

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

T = TypeVar("T")


class Workers:
    """A thread pool that refuses work rather than let its line grow.

    Work whose deadline has passed, or whose caller was cancelled, is dropped if it has not begun; Pillow
    cannot be stopped once it has.
    """

    def __init__(self, name: str, *, threads: int, most: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._most = most
        self._count = 0
        self._lock = threading.Lock()  # work ends in a pool thread, but is counted in the event loop's

    async def run(self, work: Callable[[], T], *, deadline: float) -> T:
        """The result of the work.

        Args:
            work: runs in a thread.
            deadline: a value of `time.monotonic`.

        Raises:
            Busy: as many pieces of work as there may be are running or waiting.
            DeadlinePassed: the work did not end in time.
        """
        left = [work]  # emptied when nobody waits any more: the pool keeps what was cancelled until its turn
        del work

        def unless_late() -> T:
            if time.monotonic() > deadline:
                raise DeadlinePassed("the deadline passed before the picture was looked at")
            return left.pop()()

        with self._lock:
            if self._count >= self._most:
                raise Busy("too many pictures wait to be decoded or drawn")
            self._count += 1
        try:
            job = self._pool.submit(unless_late)
        except RuntimeError:  # the process may have no more threads
            self._ended()
            raise
        job.add_done_callback(self._ended)
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await asyncio.wrap_future(job)
        except TimeoutError as error:
            raise DeadlinePassed("the deadline passed before the picture was decoded or drawn") from error
        finally:
            if job.cancel():  # or was it already
                left.clear()

    def close(self) -> None:
        """Drop what has not begun and wait for what has."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _ended(self, _job: Future[T] | None = None) -> None:
        with self._lock:
            self._count -= 1
