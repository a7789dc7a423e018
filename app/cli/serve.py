"""``deepemotion serve``."""

import gc
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from app.cli.common import Device, Threads, settings_from


def serve(
    *,
    checkpoint: Annotated[Path | None, typer.Option(help="TorchScript checkpoint to serve.")] = None,
    device: Device = None,
    threads: Threads = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Serve predictions and explanations over HTTP until SIGTERM; the log is JSON, on stdout.

    Every setting can also be given in the environment, as DEEPEMOTION_PORT is --port; an option here wins.
    """
    settings = settings_from(
        checkpoint=checkpoint, device=device, threads=threads, host=host, port=port, log_level=log_level
    )
    import uvicorn

    from app import telemetry
    from app.connection import connection_class, proxy_options
    from app.main import create_app

    telemetry.configure(settings.log_level)
    # uvicorn finishes what was accepted and then raises the signal again; the default handler would turn
    # that orderly end into a death by signal.
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is a checkpoint that it can reload
    app = create_app(settings)
    # What was imported stays, torch's 200,000 objects above all. Each full collection would look at them all,
    # while no request is read or answered, and find nothing.
    gc.collect()
    gc.freeze()
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        http=connection_class(settings, app.state.metrics),
        ws="none",
        log_config=None,
        log_level=settings.log_level,
        access_log=False,  # the service writes its own line for each request
        server_header=False,
        **proxy_options(settings),
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
    )


def _leave(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)
