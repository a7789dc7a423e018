"""What the verbs share: their options, their settings, and how they speak and end."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from app.offline.files import as_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from app.offline.listing import Listing
    from app.settings import Settings

Checkpoint = Annotated[Path | None, typer.Option(help="TorchScript checkpoint to use.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda[:n].")]
Threads = Annotated[int | None, typer.Option(help="CPU threads of one operation.")]
STDIN = "-"

AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]

DOUBTS = {
    "flat": "no emotion stands out",
    "unfamiliar": "the picture is unlike those that the checkpoint learned from",
}
"""Why a prediction should not be relied on, in words."""


class ExitCode(IntEnum):
    """How a command ended; the package's docstring explains them."""

    FAILED = 1
    USAGE = 2
    CHECKPOINT = 3
    INTERRUPTED = 130


def settings_from(**options: object) -> "Settings":
    """The settings of the environment, with the options that were given put over them.

    Raises:
        typer.Exit: they cannot work; stderr says why.
    """
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from app.settings import Settings

    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})  # type: ignore[arg-type] # checked by pydantic
    except ValidationError as error:
        for each in error.errors():
            where = ".".join(map(str, each["loc"])) or "settings"
            typer.echo(f"{where}: {each['msg']}", err=True)
        raise typer.Exit(ExitCode.USAGE) from error
    except SettingsError as error:
        stop(f"{error}; write a list in JSON", ExitCode.USAGE)


@contextmanager
def refusals() -> Iterator[None]:
    """Turn the errors that a user can do something about into a message and an exit code."""
    from app.checkpoint import CheckpointError
    from app.offline.journal import JournalError
    from app.offline.listing import ListingError
    from app.offline.scoring import OutputExists
    from app.offline.tables import TableError

    try:
        yield
    except CheckpointError as error:
        stop(f"{error}; deepemotion doctor says what to do", ExitCode.CHECKPOINT)
    except BrokenPipeError:
        raise  # whoever read stdout has had enough; typer ends quietly
    except OSError as error:
        what = error.strerror or str(error)
        stop(f"{error.filename}: {what}" if error.filename else what, ExitCode.USAGE)
    except (JournalError, ListingError, OutputExists, TableError) as error:
        stop(str(error), ExitCode.USAGE)


@contextmanager
def asked_to_stop() -> "Iterator[Callable[[], bool]]":
    """Yields what tells whether Ctrl-C was pressed; a second one ends the command wherever it is.

    Python's own way, a KeyboardInterrupt between any two instructions, is lost when those are a destructor's.
    """
    asked = False

    def ask(_signal: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else it was started to go on
    if heard:
        signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        if heard:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def stop(message: str, code: ExitCode) -> NoReturn:
    """Say what is wrong and end.

    Raises:
        typer.Exit: always.
    """
    complain(message)
    raise typer.Exit(code) from None


def complain(message: str) -> None:
    """Write one line to stderr."""
    typer.echo(f"{typer.style('error:', fg='red')} {readable(message)}", err=True)


def print_json(document: dict[str, Any], *, err: bool = False) -> None:
    """Write one JSON object on a line of its own, escaped to ASCII, so that any file name can be told."""
    typer.echo(json.dumps(document), err=err)


def console(*, err: bool = False) -> "Console":
    """Where tables are printed. In a file, nothing tells the width."""
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    if stream is None:
        raise typer.Exit(ExitCode.USAGE)  # closed: nothing can be told, not even this
    return Console(stderr=err, highlight=False, width=None if stream.isatty() else 120)


def print_table(rows: "Iterable[tuple[str, str]]", *, err: bool = False) -> None:
    """Names on the left and what is to be said of them on the right."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in rows:
        table.add_row(Text(name, "dim"), Text(value, overflow="fold"))
    console(err=err).print(table)


def readable(text: str) -> str:
    """Text of any origin as a terminal can show it: bytes that are no text and control characters escaped."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in as_text(text)
    )


def read_picture(name: str) -> bytes:
    """The bytes of a file, or of stdin if its name is a dash.

    Raises:
        OSError, UnusableFile: they cannot be had.
    """
    from app.offline.pictures import LARGEST_FILE, UnusableFile, read_file

    if name != STDIN:
        return read_file(name)
    if sys.stdin is None:
        raise UnusableFile("stdin is closed")
    data = sys.stdin.buffer.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise UnusableFile(f"it has more than {LARGEST_FILE:,} bytes")
    return data


def reader_of(names: "Iterable[str]") -> "Callable[[str], bytes]":
    """`read_picture` for other threads: stdin is read here and now, where Ctrl-C is heard."""
    if STDIN not in names:
        return read_picture
    given: bytes | Exception
    try:
        given = read_picture(STDIN)
    except Exception as error:  # noqa: BLE001 - told as that picture's
        given = error

    def read(name: str) -> bytes:
        if name != STDIN:
            return read_picture(name)
        if isinstance(given, Exception):
            raise given
        return given

    return read


def passed_over(listing: "Listing") -> str:
    """What lies in the folders but was not taken."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in listing.passed_over.most_common())
    return f": {readable(kinds)}" if kinds else ""
