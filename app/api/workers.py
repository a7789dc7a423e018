"""Threads for decoding and drawing, with a short line before them and a deadline on each piece of work."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from app.api.refusals import Busy
from app.engine import DeadlinePassed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

T = TypeVar("T")

_MEMORY = 0.2
"""Weight of the newest piece of work in the running mean of the time that one takes."""


class Workers:
    """A thread pool that refuses work rather than let its line grow.

    Work whose deadline has passed, or whose caller was cancelled, is dropped if it has not begun; Pillow
    cannot be stopped once it has.
    """

    def __init__(self, name: str, *, threads: int, most: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._threads = threads
        self._most = most
        self._count = self._running = 0
        self._usual = 0.0
        self._lock = threading.Lock()  # work ends in a pool thread, but is counted in the event loop's

    @property
    def busy_seconds(self) -> float:
        """What a piece of work takes as a rule, while one runs; otherwise 0."""
        return self._usual if self._running else 0.0

    @property
    def seconds_ahead(self) -> float:
        """Until one more piece of work would be done, as a rule, if there are others; otherwise 0."""
        with self._lock:
            return (self._count + 1) * self._usual / self._threads if self._count else 0.0

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
            with self._timed():
                return left.pop()()

        with self._lock:
            if self._count >= self._most:
                raise Busy("too many pictures wait to be decoded or drawn")
            self._count += 1
        try:
            job = self._pool.submit(unless_late)
        except RuntimeError:  # the process may have no more threads
            left.clear()  # the pool has queued it all the same
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

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.monotonic()
        with self._lock:
            self._running += 1
        try:
            yield
        finally:
            seconds = time.monotonic() - began
            with self._lock:
                self._running -= 1
                self._usual += _MEMORY * (seconds - self._usual)

    def close(self) -> None:
        """Drop what has not begun and wait for what has."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _ended(self, _job: Future[T] | None = None) -> None:
        with self._lock:
            self._count -= 1
