"""``deepemotion serve``."""

import gc
import signal
from pathlib import Path
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
    from app.main import create_app
    from app.server import Ending, server_options

    telemetry.configure(settings.log_level)
    ending = Ending(settings)
    signal.signal(signal.SIGTERM, ending.leave)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is a checkpoint that it can reload
    app = create_app(settings, give_up=ending.give_up)
    # What was imported stays, torch's 200,000 objects above all. Each full collection would look at them all,
    # while no request is read or answered, and find nothing.
    gc.collect()
    gc.freeze()
    try:
        uvicorn.run(app, **server_options(settings, app.state.metrics))
    finally:
        ending.fail_if_given_up()
