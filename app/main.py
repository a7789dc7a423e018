"""Wires the parts into one application: loads the checkpoint, warms the engine, drains it at the end."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

import torch
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from app.api import explain, health, model, openapi, page, predict, problems
from app.api.deps import make_service
from app.api.middleware import RequestRecord, UnreadBody
from app.checkpoint import CheckpointError, load
from app.engine import Engine
from app.settings import Settings

logger = logging.getLogger("deepemotion.service")

READY_POLL_SECONDS = 0.05


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application; nothing is loaded before its lifespan begins.

    Args:
        settings: read from the environment if not given.
    """
    chosen = settings if settings is not None else Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _running(app, chosen):
            yield

    app = FastAPIOffline(
        title="DeepEmotion", version=_version(), description=openapi.DESCRIPTION, lifespan=lifespan
    )
    for route in (predict, explain, health, model):
        app.include_router(route.router)
    page.install(app)
    problems.install(app)
    openapi.install(app)
    app.add_middleware(RequestRecord)
    app.add_middleware(UnreadBody)  # added last, so outermost: its lingering is not part of a request's time
    return app


def choose_device(name: str) -> torch.device:
    """The device that the settings name.

    Raises:
        CheckpointError: a GPU is asked for and there is none such.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise CheckpointError(f"the checkpoint cannot be put on {name}: torch sees no such GPU")
    return device


@asynccontextmanager
async def _running(app: FastAPI, settings: Settings) -> AsyncIterator[None]:
    """The service between its start and its end, in ``app.state.service``."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    try:
        checkpoint = await asyncio.to_thread(load, settings.checkpoint, choose_device(settings.device))
    except CheckpointError as error:
        logger.error("cannot start: %s", error)  # noqa: TRY400 - the message is enough; the server adds a stack
        raise
    service = make_service(settings, checkpoint)
    app.state.service = service
    service.engine.start()
    announcing = asyncio.create_task(_announce(service.engine, checkpoint.sha256))
    try:
        yield
    finally:
        announcing.cancel()
        await service.engine.drain(settings.drain_seconds)
        service.decoding.close()
        service.drawing.close()
        logger.info("stopped")


async def _announce(engine: Engine, sha256: str) -> None:
    """Log once when the engine is warm, which the server below cannot know."""
    started = time.monotonic()
    while not engine.ready:  # noqa: ASYNC110 - the engine has no loop of ours to set an event in
        await asyncio.sleep(READY_POLL_SECONDS)
    fields = {"seconds": round(time.monotonic() - started, 2), "sha256": sha256}
    logger.info("ready", extra={"fields": fields})


def _version() -> str:
    try:
        return version("deepemotion")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "0.0.0"
