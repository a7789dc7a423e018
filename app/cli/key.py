"""``deepemotion key``."""

from typing import Annotated

import typer

from app.cli.common import AsJson, ExitCode, print_json, stop


def key(
    name: Annotated[str, typer.Argument(help="Whose key it is: letters, digits, dots, dashes.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Make an API key, and the line for DEEPEMOTION_KEYS_FILE that lets it in.

    The key itself is kept nowhere: give it to its owner now. A running service sees the line at once.
    """
    from app.keys import line_of, new_key

    made = new_key()
    try:
        line = line_of(name, made)
    except ValueError as error:
        stop(str(error), ExitCode.USAGE)
    if as_json:
        print_json({"key": made, "line": line})
        return
    typer.echo(f"key:  {made}\nline: {line}")
