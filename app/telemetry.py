"""Structured logs: one JSON object a line, one line a request.

What is logged of a picture is its format and size. File names and pixels never are.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fastapi.routing import APIRoute

if TYPE_CHECKING:
    from starlette.types import Scope

MAX_MESSAGE = 300
"""Characters kept of an exception's message: enough to diagnose, too few to hold a picture."""

_encode = json.JSONEncoder(ensure_ascii=False, default=str).encode  # json.dumps would make one for each line
_requests = logging.getLogger("deepemotion.request")
_failures = logging.getLogger("deepemotion.failure")


class JsonFormatter(logging.Formatter):
    """One line of JSON: time, level, logger, message, then whatever ``extra={"fields": ...}`` carries."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line; line breaks within values are escaped by JSON itself."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line |= describe(record.exc_info[1])
        return _encode(line)


def describe(error: BaseException) -> dict[str, Any]:
    """Type, shortened message and stack of an exception, its causes included."""
    stack: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        stack.append(f"{type(cause).__name__}: {str(cause)[:MAX_MESSAGE]}")
        stack += [line.rstrip() for line in traceback.format_tb(cause.__traceback__)]
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return {"error": type(error).__name__, "traceback": stack}


def configure(level: str) -> None:
    """Send all logs of the process, the server's and Python's warnings among them, to stdout as JSON."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    logging.getLogger("PIL").setLevel(logging.WARNING)  # its debug lines tell what EXIF says
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of each malformed form


def route_of(scope: Scope) -> str | None:
    """The template of the path that a request asked for, its version included; None if there is none.

    The path itself is the client's text and may be anything, but it may be told where it ends with the
    template. FastAPI leaves the prefix out with which a router was included; without this, /v1/predict and
    /predict could not be told apart, and nobody would see when the older one is no longer asked for.
    """
    route = scope.get("route")
    template: str | None = getattr(route, "path", None)
    path: str = scope["path"]
    return path if template and isinstance(route, APIRoute) and path.endswith(template) else template


def log_request(fields: dict[str, Any]) -> None:
    """Write the one line of a finished request."""
    _requests.info("request", extra={"fields": fields})


def log_failure(error: BaseException, request_id: str) -> None:
    """Write a fault of ours with its stack; the client is told only the request id."""
    _failures.error("request failed", exc_info=error, extra={"fields": {"request_id": request_id}})
