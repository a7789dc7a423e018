"""``bench/RESULTS.md``: one marked section for each command, replaced by its next run."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bench import machine

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

RESULTS = Path("bench/RESULTS.md")
TITLE = "# Results\n\nWritten by the commands that each section names; `README.md` says how to read it.\n"


def replace_section(name: str, text: str, path: Path = RESULTS) -> None:
    """Put a section in the place of the one of its name, or at the end; all others are left as they are.

    Raises:
        ValueError: one of the section's two marks is missing, or they are in the wrong order, so nobody can
            tell where it ends.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    section = f"{begin}\n{text.strip()}\n{end}\n"
    old = path.read_text("utf-8") if path.is_file() else TITLE
    before, found, rest = old.partition(begin)
    _, ended, after = rest.partition(end)
    if bool(found) != bool(ended) or end in before:
        raise ValueError(f"{path}: the marks {begin} and {end} are not a pair")
    new = before + section + after.removeprefix("\n") if found else f"{old.rstrip()}\n\n{section}"
    path.write_text(new, "utf-8")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown; all columns but the first are figures, set to the right."""
    rules = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rules, *rows))


def circumstances(versions: Mapping[str, str], *, minutes: float, others: Sequence[float]) -> list[str]:
    """What a reader must know to repeat the run, and whether to believe it; a sentence each.

    Args:
        versions: by name.
        minutes: that the run took.
        others: share of the machine that others took during each measurement.
    """
    command = " ".join(["python -m", f"bench.{Path(sys.argv[0]).stem}", *sys.argv[1:]])
    today = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    mean, worst = (100 * share for share in (sum(others) / len(others), max(others)))
    return [
        f"Command: `{command}`, {today}, {minutes:.0f} minutes, commit {machine.commit()}.",
        f"Machine: {machine.describe()}.",
        f"Versions: {', '.join(f'{name} {version}' for name, version in versions.items())}.",
        f"Others took {mean:.1f} % of its processor time while we measured; {worst:.1f} % in the worst case.",
    ]


def bullets(sentences: Iterable[str]) -> str:
    """As a list in Markdown."""
    return "\n".join(f"- {sentence}" for sentence in sentences)


def verdict(passed: bool) -> str:
    """Of a bar."""
    return "passed" if passed else "**FAILED**"


def progress(text: str) -> None:
    """A line for whoever waits."""
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)
