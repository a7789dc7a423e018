"""What every answer tells a browser: how little it may do with it, and which other sites may read it."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from app.api.problems import answer_to

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi import FastAPI
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-store",  # an answer tells of somebody's photo
}
"""Of an answer that says nothing else itself, as the pages do."""
_RAW = [(name.lower().encode(), value.encode()) for name, value in SECURITY.items()]

_DOCUMENTATION = (
    # Swagger and ReDoc start by a script in the page, and ReDoc searches in a worker of its own making.
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; font-src 'self'; worker-src blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_DOCUMENTATION_PATHS = ("/docs", "/redoc")
_FILES = ("/web/", "/static-offline-docs/")
"""Below these are files that are the same for everybody, and may be kept, but are asked for again."""

READABLE = (
    "Retry-After",
    "Server-Timing",
    "X-Request-ID",
    "X-DeepEmotion-Abstained",
    "X-DeepEmotion-Completeness-Error",
    "X-DeepEmotion-Emotion",
    "X-DeepEmotion-Evidence",
    "X-DeepEmotion-Imbalance",
    "X-DeepEmotion-Layer",
    "X-DeepEmotion-Model",
    "X-DeepEmotion-Probability",
    "X-DeepEmotion-Settings",
)
"""Headers of answers that the pages of `Settings.cors_origins` may read."""
TAKEN = (
    "Authorization",
    "Content-Type",
    "Inference-Header-Content-Length",
    "Traceparent",
    "Tracestate",
    "X-DeepEmotion-Timeout",
    "X-Request-ID",
)
"""Headers of requests that they may send."""
_OF_CORS = (b"access-control-", b"vary")


class SecurityHeaders:
    """Adds `SECURITY` to each answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; anything else passes unseen."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path: str = scope["path"]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                if path in _DOCUMENTATION_PATHS:
                    MutableHeaders(scope=message)["Content-Security-Policy"] = _DOCUMENTATION
                kept = {name for name, _ in message["headers"]}
                if path.startswith(_FILES) and b"cache-control" not in kept:
                    # An old script with a new page is a dead one; a file that is as it was is not sent again.
                    MutableHeaders(scope=message)["Cache-Control"] = "no-cache"
                    kept.add(b"cache-control")
                added = [header for header in _RAW if header[0] not in kept]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self.app(scope, receive, send_with_headers)


class Cors(CORSMiddleware):
    """Starlette's, but what it refuses is told as every other refusal is."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """What a browser is told that asks whether a page may ask."""
        answer = super().preflight_response(request_headers)
        return answer if answer.status_code == HTTPStatus.OK else _Refused(answer)


class _Refused(Response):
    """In the form that the request's path has, which is known when it is sent."""

    def __init__(self, answer: Response) -> None:
        super().__init__(status_code=HTTPStatus.FORBIDDEN)
        self._kept = [header for header in answer.raw_headers if header[0].startswith(_OF_CORS)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = answer_to(HTTPException(self.status_code), scope, scope["state"]["request_id"])
        refusal.raw_headers += self._kept
        await refusal(scope, receive, send)


def open_to(app: FastAPI, origins: Sequence[str]) -> None:
    """Let pages of these origins ask and read."""
    if origins:
        app.add_middleware(
            Cors,
            allow_origins=list(origins),
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=list(TAKEN),
            expose_headers=list(READABLE),
        )
