"""How an error is sent, ``application/problem+json`` (RFC 9457), and how the documentation shows it."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app.api.errors import TABLE, Kind, kind_of
from app.api.refusals import TooOften, UnknownChoice
from app.api.schemas import Problem
from app.engine import QueueFull
from app.keys import KeysError
from app.telemetry import log_failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI, Request
    from starlette.types import Scope

MEDIA_TYPE = "application/problem+json"
OIP = "/v2"
"""Where the Open Inference Protocol begins, which has its own form for errors."""
CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a client that left; it is logged, and nobody is there to read it."""

_KEPT = frozenset({"allow", "retry-after", "www-authenticate"})
"""Headers of a problem that an error of the protocol carries too."""

_NAME = 32  # characters of a misspelt parameter that is named in an error

_HTTP_REMEDIES = {
    403: "let whoever runs the service name the site in DEEPEMOTION_CORS_ORIGINS; see /docs for the headers",
    404: "see /docs for the paths there are",
    405: "see /docs for the methods of this path",
}


class ProblemResponse(JSONResponse):
    """A JSON response that says it is a problem."""

    media_type = MEDIA_TYPE


def problem_response(error: Exception, request_id: str) -> Response:
    """The response for an error: its row of the table, filled in."""
    kind = _kind(error)
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if (seconds := seconds_to_wait(error)) is not None:
        headers["Retry-After"] = str(seconds)
    if kind.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    body = problem_of(error, request_id).model_dump(exclude_none=True)
    return ProblemResponse(body, status_code=kind.status, headers=headers)


def seconds_to_wait(error: Exception) -> int | None:
    """Whole seconds after which another try may succeed, if waiting helps."""
    retry_after = error.retry_after if isinstance(error, QueueFull | TooOften) else _kind(error).retry_after
    return None if retry_after is None else max(1, math.ceil(retry_after))


def problem_of(error: Exception, request_id: str) -> Problem:
    """The error's row of the table, filled in."""
    kind = _kind(error)
    allowed = list(error.allowed) or None if isinstance(error, UnknownChoice) else None
    return _problem(kind, _detail(error, kind), request_id, allowed)


def responses(*error_classes: type[Exception]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's ``responses`` for a route that may raise these, an example body for each.

    Internal errors are always among them.
    """
    documented: dict[int | str, dict[str, Any]] = {}
    for error_class in (*error_classes, Exception):
        kind = TABLE[error_class]
        entry = documented.setdefault(
            kind.status,
            {
                "description": HTTPStatus(kind.status).phrase,
                "content": {
                    MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}},
                },
            },
        )
        entry["content"][MEDIA_TYPE]["examples"][kind.slug] = {
            "summary": kind.title,
            "value": _problem(
                kind, kind.example, "0b6f4c1f9f0e4b0e8f6f7a5f2d3c1b0a", _example_of_allowed(kind)
            ).model_dump(exclude_none=True),
        }
        if kind.retry_after is not None:
            entry["headers"] = {
                "Retry-After": {"description": "seconds to wait", "schema": {"type": "integer", "minimum": 1}}
            }
    return documented


def install(app: FastAPI) -> None:
    """Have every error of the table, of the framework and of a lost client answered in this form."""
    for error_class in (*TABLE, HTTPException):
        if error_class is not Exception:  # left to the outermost middleware, which knows the request id
            app.add_exception_handler(error_class, handle)
    app.add_exception_handler(ClientDisconnect, _handle_disconnect)


async def handle(request: Request, error: Exception) -> Response:
    """Answer an error of the table or of the framework, as the request's path has it."""
    request_id: str = request.state.request_id
    logged = isinstance(error, HTTPException | KeysError)  # the latter once, where it began: anybody may ask
    if not logged and kind_of(type(error)).fixed_detail:
        log_failure(error, request_id)  # the log says what the client is not told
    return answer_to(error, request.scope, request_id)


def answer_to(error: Exception, scope: Scope, request_id: str) -> Response:
    """The error as the request's path has it; the request's log line names it."""
    scope["state"]["problem"] = _kind(error).slug
    if scope["path"].startswith(OIP):
        return _protocol_error(error, request_id)
    return problem_response(error, request_id)


def _protocol_error(error: Exception, request_id: str) -> Response:
    """The same as the Open Inference Protocol wants it: one sentence, with the status and headers it has."""
    response = problem_response(error, request_id)
    problem = problem_of(error, request_id)
    body = {"error": f"{problem.title}: {problem.detail}; {problem.remedy}"}
    kept = {name: value for name, value in response.headers.items() if name in _KEPT}
    return JSONResponse(body, response.status_code, kept)


async def _handle_disconnect(_request: Request, _error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


def _kind(error: Exception) -> Kind:
    return _http_kind(error) if isinstance(error, HTTPException) else kind_of(type(error))


def _http_kind(error: HTTPException) -> Kind:
    """A row for the errors of the framework itself: unknown path, wrong method."""
    status = HTTPStatus(error.status_code)
    remedy = _HTTP_REMEDIES.get(status, "compare the request with the documentation at /docs")
    slug = status.phrase.lower().replace(" ", "-").replace("'", "")
    return Kind(status, slug, status.phrase, remedy, status.description or status.phrase, fixed_detail=True)


def _detail(error: Exception, kind: Kind) -> str:
    if kind.fixed_detail:
        return kind.example
    if isinstance(error, RequestValidationError):
        return "; ".join(_complaints(error))
    return str(error) or kind.title


def _complaints(error: RequestValidationError) -> Iterator[str]:
    """What is wrong, in pydantic's words, which do not repeat the input; and one misspelt name of it."""
    unknown = [str(each["loc"][-1]) for each in error.errors() if each["type"] == "extra_forbidden"]
    for each in error.errors():
        if each["type"] != "extra_forbidden":
            yield f"{'.'.join(map(str, each['loc']))}: {each['msg']}"
    if unknown:
        # What is misspelt looks like a name. Anything else is not sent back to where it came from.
        named = next((f" {name}" for name in unknown if name.isidentifier() and len(name) <= _NAME), "")
        yield f"there is no parameter{named}"


def _example_of_allowed(kind: Kind) -> list[str] | None:
    _, found, listed = kind.example.partition("choose one of: ")
    return listed.split(", ") if found else None


def _problem(kind: Kind, detail: str, request_id: str, allowed: list[str] | None) -> Problem:
    return Problem(
        type=f"urn:deepemotion:problem:{kind.slug}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        remedy=kind.remedy,
        request_id=request_id,
        allowed=allowed,
    )
