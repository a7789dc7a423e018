"""Wires the parts into one application: loads the checkpoint, warms the engine, drains it at the end."""

import asyncio
import logging
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline

from app.api import (
    batch,
    explain,
    health,
    inference_protocol,
    metrics,
    model,
    openapi,
    page,
    predict,
    problems,
)
from app.api import headers as security_headers
from app.api.access import identified
from app.api.deps import Service, make_service
from app.api.middleware import LastAnswer, PlainRequest, RequestRecord, UnreadBody
from app.api.overload import NoRoom
from app.checkpoint import CheckpointError
from app.devices import choose_devices
from app.engine import Engine, EngineError, load_model_apart
from app.keys import KeysError
from app.metrics import Metrics
from app.served import Served
from app.settings import Settings
from app.tracing import Tracing, send_the_rest, sending_to

logger = logging.getLogger("deepemotion.service")

READY_POLL_SECONDS = 0.05
LAST_SECONDS = 2.0
SEEN_SECONDS = 6.0
"""What a process that is beyond repair goes on for, so that Prometheus, which asks every 5 s, sees why."""


def create_app(settings: Settings | None = None, *, give_up: Callable[[], None] | None = None) -> FastAPI:
    """The application; nothing is loaded before its lifespan begins.

    Args:
        settings: read from the environment if not given.
        give_up: ends the process, when only a new one helps; without it, ``/healthz`` says so and no more.
    """
    chosen = settings if settings is not None else Settings()
    counted = Metrics()
    spans = None if chosen.traces is None else sending_to(chosen.traces)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _running(chosen, counted, give_up) as service:
            app.state.service = service
            yield
        if spans is not None:
            await send_the_rest(spans, LAST_SECONDS)

    app = FastAPIOffline(
        title="DeepEmotion",
        version=_version(),
        description=openapi.DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,  # to where the client's Host header says, and without TLS behind a proxy
        telemetry={"tracing": False, "metrics": False, "logs": False},  # ours is `Tracing`, if it is wanted
    )
    app.state.metrics = counted  # the server counts what never reaches the application
    known = [
        Depends(identified)
    ]  # before anything is read; the model's and the protocol's routes say it alone
    for route in (predict, explain):
        app.include_router(route.router, dependencies=known)
    for route in (health, model, metrics, inference_protocol):
        app.include_router(route.router)
    for route in (predict, explain, batch):  # the first two also under a version, for those who build on it
        app.include_router(route.router, prefix="/v1", dependencies=known)
    app.add_middleware(PlainRequest)
    app.add_middleware(NoRoom)  # a refusal is recorded and traced as the route's own
    page.install(app)
    problems.install(app)
    openapi.install(app)
    app.add_middleware(LastAnswer)
    if spans is not None:
        app.add_middleware(Tracing, provider=spans)  # of the last answer too: it is of failures
    security_headers.open_to(app, chosen.cors_origins)  # around the last answer, within the record
    app.add_middleware(RequestRecord, metrics=counted)
    app.add_middleware(UnreadBody)  # outside of the record: its lingering is not part of a request's time
    app.add_middleware(security_headers.SecurityHeaders)
    return app


@asynccontextmanager
async def _running(
    settings: Settings, counted: Metrics, give_up: Callable[[], None] | None
) -> AsyncIterator[Service]:
    """The service between its start and its end."""
    try:
        devices = choose_devices(settings.device, settings.threads, largest_batch=settings.max_batch)
        first = await load_model_apart(settings.checkpoint, devices, settings.precision)
        service = make_service(settings, first, devices, counted)
    except (CheckpointError, KeysError) as error:
        logger.error("cannot start: %s", error)  # noqa: TRY400 - the message is enough; the server adds a stack
        raise
    service.engine.start(first)
    del first  # else it would outlive every reload
    watching = [asyncio.create_task(_announce(service))]
    if give_up is not None:
        watching.append(asyncio.create_task(_give_up_beyond_repair(service.engine, give_up)))
    try:
        with _reloading_on_hangup(service.served):
            yield service
    finally:
        for task in watching:
            task.cancel()
        # The server has waited for every request; what is still on a device, nobody waits for.
        await service.engine.drain(min(LAST_SECONDS, settings.drain_seconds))
        service.decoding.close()
        service.drawing.close()
        logger.info("stopped")


async def _announce(service: Service) -> None:
    """Log once when the engine is warm, which the server below cannot know."""
    started = time.monotonic()
    while not service.engine.ready:  # noqa: ASYNC110 - the engine has no loop of ours to set an event in
        await asyncio.sleep(READY_POLL_SECONDS)
    answering = service.served.current
    seconds = round(time.monotonic() - started, 2)
    fields = {"seconds": seconds, "sha256": answering.sha256, "predicts": answering.predicts}
    logger.info("ready", extra={"fields": fields})


async def _give_up_beyond_repair(engine: Engine, give_up: Callable[[], None]) -> None:
    """End the process when only a new one helps: who restarts it looks at its end, rarely at ``/healthz``."""
    while True:
        await asyncio.sleep(READY_POLL_SECONDS)
        if not engine.beyond_repair:
            continue
        logger.error("beyond repair: devices hung or died too often; ending in %g s", SEEN_SECONDS)
        await asyncio.sleep(SEEN_SECONDS)
        if engine.beyond_repair:  # the last of many deaths may have been the last
            give_up()
            return


@contextmanager
def _reloading_on_hangup(served: Served) -> Iterator[None]:
    """Let SIGHUP read the checkpoint again; only a process's main thread can be told of signals."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def reload() -> None:
        with suppress(CheckpointError, EngineError):  # the log says why, and the old checkpoint stays
            await served.reload()

    def hang_up() -> None:
        task = loop.create_task(reload())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop.add_signal_handler(signal.SIGHUP, hang_up)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the default would end the process while it stops
        for task in tasks:
            task.cancel()


def _version() -> str:
    try:
        return version("deepemotion")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "0.0.0"
