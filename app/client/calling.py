"""How a request is sent: tried as often as may be, within one timeout for all of it."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, TypeVar

import httpx

from app.client.errors import DeadlinePassed, ServiceError, UnexpectedAnswer, Unreachable
from app.client.reading import read, told
from app.client.retrying import BUSY, retrying

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

CONNECT_SECONDS = 5.0
READY_SECONDS = 5.0
LONGEST_USEFUL = 3600.0
"""Seconds; more than the service lets a client tell it."""


class Caller:
    """Connections to one service; takes what `app.client.AsyncClient` does."""

    def __init__(
        self,
        base_url: str,
        *,
        timeout: float,
        retries: int,
        api_key: str | None,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        if timeout <= 0 or retries < 0:
            raise ValueError("the timeout must be above 0, and the retries at least 0")
        if api_key is not None and not re.fullmatch(r"[!-~]+", api_key):
            raise ValueError("the API key has a space, a line's end or letters that no key has")
        if httpx.URL(base_url).scheme not in {"http", "https"}:
            raise ValueError("the base URL must begin with http:// or https://")
        self._timeout = timeout
        self._retries = retries
        self._http = httpx.AsyncClient(
            base_url=base_url,
            headers={} if api_key is None else {"Authorization": f"Bearer {api_key}"},
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),  # the call as a whole has its own
            transport=transport,
            limits=httpx.Limits(max_connections=None),  # who calls decides how many at once
        )

    async def get(self, path: str, reader: Callable[[httpx.Response], T]) -> T:
        """What the answer to a request without a body says.

        Raises:
            ClientError: there is no answer, or none of this service's.
        """
        return await self._call(self._http.build_request("GET", path), reader)

    async def post(
        self,
        path: str,
        reader: Callable[[httpx.Response], T],
        data: bytes,
        *,
        accept: str,
        request_id: str | None,
        wishes: Mapping[str, str | float | bool | None] | None = None,
    ) -> T:
        """What the answer to a picture says.

        Args:
            path: below the base URL.
            reader: makes sense of a successful response.
            data: a picture's file.
            accept: the kind of answer.
            request_id: names the request; None leaves that to the service.
            wishes: parameters; None leaves one to the service.

        Raises:
            ClientError: there is no answer, or none of this service's.
            ValueError: that is no request id.
        """
        params = {name: value for name, value in (wishes or {}).items() if value is not None}
        headers = {"Content-Type": "application/octet-stream", "Accept": accept}
        if request_id is not None:
            if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", request_id):  # the service would take another
                raise ValueError("a request id has 1 to 64 letters, digits, dots, dashes and underscores")
            headers["X-Request-ID"] = request_id
        request = self._http.build_request("POST", path, content=data, params=params, headers=headers)
        return await self._call(request, reader)

    async def ready(self, path: str) -> bool:
        """Whether a request is answered with success: one try, a few seconds at most.

        Raises:
            ServiceError: the answer is neither that nor that it will be.
        """
        try:
            async with asyncio.timeout(min(READY_SECONDS, self._timeout)):
                response = await self._http.get(path)
        except (httpx.TransportError, TimeoutError):
            return False
        if response.is_success or response.status_code in BUSY:
            return response.is_success
        raise ServiceError.of(response)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def _call(self, request: httpx.Request, reader: Callable[[httpx.Response], T]) -> T:
        try:
            return read(await self._send(request), reader)
        except httpx.DecodingError as error:
            raise UnexpectedAnswer(f"{told(request.url)}: {error}") from error
        except httpx.HTTPError as error:
            what = str(error) or type(error).__name__
            raise Unreachable(f"{told(request.url)} cannot be reached: {what}") from error

    async def _send(self, request: httpx.Request) -> httpx.Response:
        """The successful response to a request."""
        end = time.monotonic() + self._timeout
        last: Exception | None = None

        async def attempt() -> httpx.Response:
            nonlocal last
            left = min(max(end - time.monotonic(), 0.001), LONGEST_USEFUL)
            request.headers["X-DeepEmotion-Timeout"] = f"{left:.3f}"
            try:
                response = await self._http.send(request)
                if not response.is_success:
                    raise ServiceError.of(response)
            except (httpx.HTTPError, ServiceError) as error:
                last = error
                raise
            return response

        try:
            async with asyncio.timeout(self._timeout):
                return await retrying(self._retries, self._timeout)(attempt)
        except TimeoutError as error:
            before = "" if last is None else f"; before that: {last}"
            message = f"{told(request.url)} did not answer within {self._timeout:g} s{before}"
            raise DeadlinePassed(message) from (last or error)
