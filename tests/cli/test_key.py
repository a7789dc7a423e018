from __future__ import annotations

import json
from typing import TYPE_CHECKING

from app.keys import Keys

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Deepemotion


def test_the_line_lets_the_key_in(deepemotion: Deepemotion, tmp_path: Path) -> None:
    done = deepemotion("key", "alice", "--json")
    made = json.loads(done.stdout)
    (tmp_path / "keys").write_text(made["line"], "utf-8")
    assert Keys(tmp_path / "keys").owner(made["key"]) == "alice"
    assert made["key"] not in made["line"]


def test_what_a_person_reads(deepemotion: Deepemotion) -> None:
    key, line = deepemotion("key", "alice").stdout.splitlines()
    assert key.startswith("key:  de_")
    assert line.startswith("line: alice ")


def test_a_name_that_would_break_the_file(deepemotion: Deepemotion) -> None:
    done = deepemotion("key", "alice smith")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "letters, digits" in done.stderr
