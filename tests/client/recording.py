"""httpx's own transport, which remembers what went over it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import httpx


@dataclass
class Try:
    """One request, and the status that it was answered with; None if it was not."""

    began: float
    headers: httpx.Headers
    ended: float | None = None
    status: int | None = None


@dataclass
class Recording(httpx.AsyncBaseTransport):
    """Sends requests as ever.

    Attributes:
        tries: all of them, in the order in which they began.
        most_at_once: that were under way together.
    """

    tries: list[Try] = field(default_factory=list)
    most_at_once: int = 0
    _inner: httpx.AsyncHTTPTransport = field(default_factory=httpx.AsyncHTTPTransport)
    _now: int = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        record = Try(time.monotonic(), request.headers.copy())
        self.tries.append(record)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            response = await self._inner.handle_async_request(request)
            await response.aread()
            record.status = response.status_code
            return response
        finally:
            self._now -= 1
            record.ended = time.monotonic()

    async def aclose(self) -> None:
        await self._inner.aclose()

    @property
    def statuses(self) -> list[int | None]:
        """What each try was answered with."""
        return [each.status for each in self.tries]
