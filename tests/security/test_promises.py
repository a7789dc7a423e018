"""Every test that SECURITY.md and the reliability page name exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("SECURITY.md", "docs/reliability.md")
NAMED = [
    (page, name)
    for page in PAGES
    for name in re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", (ROOT / page).read_text("utf-8"))
]


def exists(named: str) -> bool:
    file, _, function = named.partition("::")
    path = ROOT / file
    if not path.is_file():
        return False
    tree = ast.parse(path.read_text("utf-8"))
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return not function or function in functions


@pytest.mark.parametrize(("page", "name"), NAMED)
def test_every_test_that_is_named_exists(page: str, name: str) -> None:
    assert exists(name), page


def test_every_promise_names_a_test_or_a_command() -> None:
    rows = [line for line in (ROOT / "SECURITY.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    assert len(rows) > 15
    for row in rows[1:]:
        assert "tests/" in row or "make " in row, row


def test_a_test_that_is_not_there_would_be_missed() -> None:
    assert not exists("tests/security/test_promises.py::test_nothing")
    assert not exists("tests/security/test_none.py")
