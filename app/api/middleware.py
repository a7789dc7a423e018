"""What every request passes through, as plain ASGI: its id, its log line, and both its ends.

Starlette's ``BaseHTTPMiddleware`` is not used because it hides from a route that its client has left.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
import uuid
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException

from app.api.problems import answer_to
from app.engine import EngineStopped
from app.telemetry import log_failure, log_request, route_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from app.metrics import Metrics

REQUEST_ID = "X-Request-ID"
LINGER_SECONDS = 2.0
SHORT_BODY = 1024 * 1024
SOON_SECONDS = 0.01
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
ID_PATTERN = "[A-Za-z0-9._-]{1,64}"
"""What a client's own id may be."""
_ID = re.compile(ID_PATTERN)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class RequestRecord:
    """Names each request, and logs and counts it when it ends.

    The client's own ``X-Request-ID`` is kept when it is short and harmless.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; anything else passes unseen."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.monotonic()
        request_id = _choose_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        status: int | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            self._record(scope, status, time.monotonic() - started)

    def _record(self, scope: Scope, status: int | None, seconds: float) -> None:
        log_request(_facts(scope, status, seconds))
        route = route_of(scope) or "none"
        method = scope["method"] if scope["method"] in _METHODS else "other"  # else a client could add series
        self._metrics.requests.labels(route, method, str(status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)


class LastAnswer:
    """Answers what nothing else answered.

    An error that no handler knows becomes a problem here, within what adds headers to every answer, so that
    it too carries them and the request's id, and nothing of our inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; anything else passes unseen."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id: str = scope["state"]["request_id"]
        begun = False

        async def watch(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except asyncio.CancelledError:  # by the server alone, when what was accepted outlasts the drain
            if begun:
                raise
            error = EngineStopped("the service is stopping")
            await answer_to(error, scope, request_id)(scope, receive, send)
        except Exception as error:
            log_failure(error, request_id)
            if begun:
                raise  # the answer has begun: only the server can still cut it short
            await answer_to(error, scope, request_id)(scope, receive, send)


class PlainRequest:
    """Understands a request's first line as HTTP has it, which the routes do not.

    HEAD is GET without the body (RFC 9110, 9.3.2). And no path has control characters: the end of a route's
    pattern matches before a newline too, so ``/metrics%0A`` would pass a proxy that keeps ``/metrics``.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; anything else passes unseen."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif _CONTROL.search(scope["path"]):
            unknown = answer_to(HTTPException(404), scope, scope["state"]["request_id"])
            await unknown(scope, receive, send)
        elif scope["method"] == "HEAD":
            await self._answer_head(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _answer_head(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = {**scope, "method": "GET"}
        head: Message | None = None

        async def send_head(message: Message) -> None:
            # Only once the whole answer is there: to the client the head is all of it, and the next request
            # may come behind it at once.
            nonlocal head
            if message["type"] == "http.response.start":
                head = message
                tell_route()
            elif head is not None and not message.get("more_body", False):
                await send(head)
                await send({**message, "body": b""})

        def tell_route() -> None:  # which the log, the metrics and, at the head, traces name
            if "route" in asked:
                scope["route"] = asked["route"]

        try:
            await self.app(asked, receive, send_head)
        finally:
            tell_route()


class UnreadBody:
    """Lets a client that is still sending see an early answer, then closes the connection.

    Closing at once would reset the connection, and the client would lose the answer with it. Reading to the
    end would let an endless body hold the connection. So the rest is thrown away for a moment
    (`LINGER_SECONDS`), as nginx does with ``lingering_close``.

    The rest of a short body has mostly come by then, and an answer may wait for it for `SOON_SECONDS`. Then
    the connection stays open, since a new one would cost both sides more than the whole refusal.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; those without a body pass unseen."""
        if scope["type"] != "http" or not (length := _body_length(scope)):
            await self.app(scope, receive, send)
            return
        body = _Body(receive)
        held_back: Message | None = None

        async def send_and_close(message: Message) -> None:
            nonlocal held_back
            if body.unread and message["type"] == "http.response.start":
                if length <= SHORT_BODY:
                    await body.throw_away(SOON_SECONDS)
                if body.unread:
                    MutableHeaders(scope=message)["Connection"] = "close"
            elif body.unread and not message.get("more_body", False):
                held_back = {**message, "body": b""}
                message = {**message, "more_body": True}
            await send(message)

        await self.app(scope, body.receive, send_and_close)
        if held_back is not None:
            await body.throw_away(LINGER_SECONDS)
            await send(held_back)


class _Body:
    """A request's body, and whether any of it may still come."""

    def __init__(self, receive: Receive) -> None:
        self.unread = True
        self._receive = receive

    async def receive(self) -> Message:
        """The next part, or that the client has left."""
        message = await self._receive()
        self.unread = message["type"] == "http.request" and message.get("more_body", False)
        return message

    async def throw_away(self, seconds: float) -> None:
        """Read to the end, for so long at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.unread:
                    await self.receive()


def _choose_id(scope: Scope) -> str:
    given = Headers(scope=scope).get(REQUEST_ID, "")
    return given if _ID.fullmatch(given) else uuid.uuid4().hex


def _body_length(scope: Scope) -> float:
    """Bytes that are announced; infinity if they are not counted, or are not sent before we ask for them."""
    length, asks = 0.0, False
    for name, value in scope["headers"]:
        if name == b"transfer-encoding":
            return math.inf
        if name == b"content-length":
            length = float(value)
        elif name == b"expect":
            asks = True
    return math.inf if length and asks else length


def _facts(scope: Scope, status: int | None, seconds: float) -> dict[str, Any]:
    """The log line."""
    return {
        "method": scope["method"],
        "route": route_of(scope),
        "status": status,
        "ms": round(seconds * 1000, 1),
        "request_id": scope["state"]["request_id"],
        **{name: scope["state"][name] for name in ("problem", "key") if name in scope["state"]},
        **scope["state"].get("picture", {}),
    }
