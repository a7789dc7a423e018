"""The command line: ``deepemotion <verb>``, one module for each verb.

Answers go to stdout and everything else to stderr. What ends a command is told by its exit code:

====  =================================================================================================
code  meaning
====  =================================================================================================
0     all is done
1     some pictures could not be predicted, or a check of ``doctor`` failed; the rest is done
2     wrong usage, a setting that cannot work, or an output that cannot be written
3     the checkpoint cannot be used: missing, not the listed one, damaged, or not on this device;
      or ``serve`` cannot start, and its log says why
130   interrupted with Ctrl-C; ``serve`` then ends as after SIGTERM, with 0
====  =================================================================================================

Whatever needs torch is imported within the verbs, so that help and shell completion answer at once.
"""

import io
import os
import sys

import typer

from app.cli.card import card
from app.cli.doctor import doctor
from app.cli.explain import explain
from app.cli.key import key
from app.cli.predict import predict
from app.cli.score import score
from app.cli.serve import serve
from app.cpus import spin_briefly

EPILOG = (
    "Exit codes: 0 all is done; 1 some pictures or checks failed; 2 wrong usage, settings or output; "
    "3 the checkpoint cannot be used, or serve cannot start; 130 interrupted; serve ends with 0 then. "
    "Answers go to stdout, everything else to stderr."
)

cli = typer.Typer(
    name="deepemotion",
    help="Which emotions a picture evokes, and which parts of it do so.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="markdown",
)


@cli.callback()
def _root() -> None:
    """Which emotions a picture evokes, and which parts of it do so."""


for _verb in (serve, predict, explain, score, card, doctor, key):
    cli.command(epilog=EPILOG)(_verb)


def main() -> None:
    """Entry point."""
    spin_briefly(os.environ)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None if it is closed
            stream.reconfigure(errors="backslashreplace")  # a terminal may know fewer letters than we use
    cli()
