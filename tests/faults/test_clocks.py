"""No duration or deadline of the service is by a clock that can jump."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "app").rglob("*.py"))
JUMPING = {"time", "time_ns", "now", "utcnow", "today", "localtime", "gmtime"}
MEANT = {
    "app/tracing.py": ["time.time_ns"],  # when a span was, for people
    "app/client/retrying.py": ["datetime.now"],  # a Retry-After that is a date
}


def wall_clocks(source: str) -> list[str]:
    """Every mention of a clock that can jump, called or handed on."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in JUMPING:
            owner = ast.unparse(node.value).rpartition(".")[2]
            found += [f"{owner}.{node.attr}"] if owner in {"time", "datetime", "date"} else []
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            found += [f"time.{each.name}" for each in node.names if each.name in JUMPING]
    return found


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(ROOT)) for path in SOURCES])
def test_nothing_is_timed_by_a_clock_that_can_jump(path: Path) -> None:
    assert wall_clocks(path.read_text("utf-8")) == MEANT.get(str(path.relative_to(ROOT)), [])


@pytest.mark.parametrize(
    "source",
    [
        "import time\nbegan = time.time()",
        "from time import time",
        "import datetime\ndatetime.datetime.now()",
        "from datetime import datetime\ndatetime.utcnow()",
        "import time\ndef f(clock=time.time): ...",
    ],
)
def test_such_a_clock_would_be_seen(source: str) -> None:
    assert wall_clocks(source)
