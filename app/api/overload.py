"""Refusing a prediction before it costs anything, when there is no room for it.

Under overload most requests are refused, and what that takes the processor is taken from the network. So the
commonest request, a prediction without parameters, is refused before FastAPI looks at it. Nothing but the
cost differs: what the route would have said first, it says here too.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.requests import Request

from app.api import predict
from app.api.access import API_KEY, identified
from app.api.problems import handle
from app.api.rates import PREDICTION, spend
from app.api.refusals import KeyNeeded, TooOften
from app.engine import Kind, QueueFull
from app.keys import KeysError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from app.api.deps import Service

_PATHS = frozenset({"/predict", "/v1/predict"})
_ROUTE = next(route for route in predict.router.routes if getattr(route, "path", None) == "/predict")


class NoRoom:
    """Says what the route of a prediction would say if its first step were to look for room."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; all that have room, or parameters that may be wrong, pass unseen."""
        if _is_plain_prediction(scope):
            request = Request(scope)
            try:
                await _look_for_room(request)
            except (KeyNeeded, KeysError, TooOften, QueueFull) as error:
                scope["route"] = _ROUTE  # for the log and the metrics
                response = await handle(request, error)
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)


async def _look_for_room(request: Request) -> None:
    service: Service = request.app.state.service
    deadline = time.monotonic() + service.settings.predict_seconds
    refusal = service.engine.refusal(Kind.PREDICTION, deadline=deadline)
    if refusal is None:
        return
    await identified(request, service, await API_KEY(request))
    spend(request, service, PREDICTION)
    service.metrics.shed.labels(Kind.PREDICTION).inc()
    raise refusal


def _is_plain_prediction(scope: Scope) -> bool:
    return (
        scope["type"] == "http"
        and scope["method"] == "POST"
        and scope["path"] in _PATHS
        and not scope["query_string"]
        and all(name != b"x-deepemotion-timeout" for name, _ in scope["headers"])
    )
