"""The command line: ``deepemotion <verb>``."""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
import uvicorn
from pydantic import ValidationError

from app import telemetry
from app.main import create_app
from app.settings import Settings

cli = typer.Typer(
    name="deepemotion",
    help="Which emotions a picture evokes, and which parts of it do so.",
    no_args_is_help=True,
    add_completion=False,
)


@cli.callback()
def _root() -> None:
    """Which emotions a picture evokes, and which parts of it do so."""


@cli.command()
def serve(
    *,
    checkpoint: Annotated[Path | None, typer.Option(help="TorchScript checkpoint to serve.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda[:n].")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of one operation.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Serve predictions and explanations over HTTP until SIGTERM.

    Every setting can also be given in the environment, as DEEPEMOTION_<NAME>; an option here wins.
    """
    options = {
        "checkpoint": checkpoint,
        "device": device,
        "threads": threads,
        "host": host,
        "port": port,
        "log_level": log_level,
    }
    settings = _settings({name: value for name, value in options.items() if value is not None})
    telemetry.configure(settings.log_level)
    # uvicorn finishes what was accepted and then raises the signal again; the default handler would turn
    # that orderly end into a death by signal.
    signal.signal(signal.SIGTERM, _leave)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        log_level=settings.log_level,
        access_log=False,  # the service writes its own line for each request
        server_header=False,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
    )


def main() -> None:
    """Entry point."""
    cli()


def _leave(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def _settings(options: dict[str, object]) -> Settings:
    try:
        return Settings(**options)  # type: ignore[arg-type] # checked by pydantic
    except ValidationError as error:
        for each in error.errors():
            where = ".".join(map(str, each["loc"])) or "settings"
            typer.echo(f"{where}: {each['msg']}", err=True)
        raise typer.Exit(2) from error
