"""``deepemotion doctor``."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.common import (
    AsJson,
    Checkpoint,
    Device,
    ExitCode,
    Threads,
    console,
    print_json,
    readable,
    refusals,
    settings_from,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.doctor import Check

COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red", "skipped": "dim"}


def doctor(
    *,
    json: AsJson = False,
    checkpoint: Checkpoint = None,
    device: Device = None,
    threads: Threads = None,
    host: Annotated[str | None, typer.Option(help="Address that the service would listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port that the service would listen on.")] = None,
) -> None:
    """Check whether this machine can run the service as it is set, and say what to change.

    Fails, with exit code 1, if any check does; a warning is no failure.
    """
    settings = settings_from(checkpoint=checkpoint, device=device, threads=threads, host=host, port=port)
    with refusals():
        from app.doctor import State, examine

        checks = list(examine(settings))
    failed = any(check.state is State.FAIL for check in checks)
    if json:
        print_json({"ok": not failed, "checks": [asdict(check) for check in checks]})
    else:
        _print(checks)
    if failed:
        raise typer.Exit(ExitCode.FAILED)


def _print(checks: "Sequence[Check]") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for check in checks:
        found = Text(readable(check.found), overflow="fold")
        if check.change:
            found.append(f"\n-> {check.change}", "bold")
        table.add_row(Text(check.state, COLOURS[check.state]), Text(check.name), found)
    console().print(table)
