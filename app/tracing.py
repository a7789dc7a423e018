"""Traces for OpenTelemetry: what became of one request, and how long each part of it took.

They come with the extra ``tracing``. Where they are not asked for, nothing of OpenTelemetry is imported. The
middleware is our own because it must leave ``receive`` alone, by which a route notices that its client left,
and because a span must tell nothing of a picture or of who sent it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from typing import TYPE_CHECKING

from app.telemetry import route_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

UNTRACED = frozenset({"/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})
"""Asked every few seconds by machines, with nothing to learn from."""
FIRST_ERROR = 500
_NANO = 1_000_000_000

log = logging.getLogger(__name__)

_tracer: ContextVar[Tracer | None] = ContextVar("tracer", default=None)


def installed() -> bool:
    """Whether the extra is there."""
    try:
        return find_spec("opentelemetry.sdk") is not None and (
            find_spec("opentelemetry.exporter.otlp.proto.http") is not None
        )
    except ModuleNotFoundError:  # a parent is missing
        return False


def sending_to(endpoint: str) -> TracerProvider:
    """Sends spans to a collector, in batches, by OTLP over HTTP; the SDK's own variables say the rest."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    name = Resource.create().attributes[SERVICE_NAME]  # of OTEL_SERVICE_NAME, if anybody has set it
    named = {SERVICE_NAME: "deepemotion"} if str(name).startswith("unknown_service") else {}
    provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)  # `send_the_rest` does
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
    return provider


async def send_the_rest(spans: TracerProvider, seconds: float) -> None:
    """Send what is left, for so long at most: a collector that does not answer must not hold up the end."""
    # A thread that nothing waits for, as the end of an executor's would be.
    sending = threading.Thread(target=spans.shutdown, name="last-traces", daemon=True)
    sending.start()
    await asyncio.to_thread(sending.join, seconds)
    if sending.is_alive():
        log.warning("the last traces could not be sent within %g s", seconds)


@contextmanager
def span(name: str) -> Iterator[None]:
    """A part of the request that is being answered; nothing where it is not traced."""
    tracer = _tracer.get()
    if tracer is None:
        yield
        return
    # What an exception says is of the picture, and its stack of the code.
    with tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False):
        yield


def on_device(queue_seconds: float, infer_seconds: float) -> None:
    """The spans ``queue`` and ``infer`` of what the device has just answered.

    Their lengths are as measured. An explanation waits and runs by turns; its turns are put together.
    """
    tracer = _tracer.get()
    if tracer is None:
        return
    end = time.time_ns()
    began = end - round(infer_seconds * _NANO)
    tracer.start_span("queue", start_time=began - round(queue_seconds * _NANO)).end(began)
    tracer.start_span("infer", start_time=began).end(end)


class Tracing:
    """A span for each request, below that of the caller if it sent a ``traceparent``.

    Args:
        app: what answers.
        provider: takes the spans.
    """

    def __init__(self, app: ASGIApp, provider: TracerProvider) -> None:
        from opentelemetry.trace.propagation import tracecontext  # noqa: PLC0415

        self.app = app
        self._tracer = provider.get_tracer("deepemotion")
        self._parents = tracecontext.TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; anything else passes unseen."""
        if scope["type"] != "http" or scope["path"] in UNTRACED:
            await self.app(scope, receive, send)
            return
        from opentelemetry.trace import SpanKind  # noqa: PLC0415

        parent = self._parents.extract(_carrier(scope))
        given = _tracer.set(self._tracer)
        try:
            with self._tracer.start_as_current_span(
                "request",
                parent,
                kind=SpanKind.SERVER,
                record_exception=False,
                set_status_on_exception=False,
            ) as server:

                async def watch(message: Message) -> None:
                    if message["type"] == "http.response.start":
                        _describe(server, scope, message["status"])
                    await send(message)

                await self.app(scope, receive, watch)
        finally:
            _tracer.reset(given)


def _carrier(scope: Scope) -> dict[str, str]:
    """The headers. Of `tracestate`, one line may go on in the next (W3C Trace Context, 3.3)."""
    carrier: dict[str, str] = {}
    for name, value in scope["headers"]:
        known = name.decode("latin-1")
        more = known == "tracestate" and known in carrier
        carrier[known] = (f"{carrier[known]}," if more else "") + value.decode("latin-1")
    return carrier


def _describe(server: Span, scope: Scope, status: int) -> None:
    """Name the span by the route."""
    from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

    route = route_of(scope) or "none"
    server.update_name(f"{scope['method']} {route}")
    server.set_attributes(
        {
            "http.request.method": scope["method"],
            "http.route": route,
            "http.response.status_code": status,
            "deepemotion.request_id": scope["state"]["request_id"],
        }
    )
    if status >= FIRST_ERROR:
        server.set_status(Status(StatusCode.ERROR))
