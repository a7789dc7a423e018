from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest
from typer.testing import CliRunner

from app.cli import cli
from tests.cli.scoring import BAD, GOOD
from tests.pictures import plain

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result


class Deepemotion(Protocol):
    """Runs a verb with the tiny checkpoint."""

    def __call__(self, *arguments: object, stdin: bytes | None = None) -> Result: ...


@pytest.fixture
def deepemotion(checkpoint_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deepemotion:
    """The command line within this process, in an empty folder."""
    monkeypatch.setenv("DEEPEMOTION_CHECKPOINT", str(checkpoint_path))
    monkeypatch.setenv("DEEPEMOTION_DEVICE", "cpu")
    monkeypatch.setenv("DEEPEMOTION_THREADS", "1")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(
            cli, [str(each) for each in arguments], input=stdin, prog_name="deepemotion"
        )

    return run


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with good and bad pictures, and something else."""
    for name, data in (BAD | GOOD | {"pictures/notes.txt": b"", "pictures/.hidden.png": b""}).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "pictures"


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A list of more pictures than are scored in a moment, every eleventh of them bad."""
    names = []
    for number in range(60):
        name = f"{number * 37 % 60:02}.png"  # not in the order of the names
        (tmp_path / name).write_bytes(b"bad" if number % 11 == 5 else plain((number * 4, 90, 200 - number)))
        names.append(name)
    (tmp_path / "list.txt").write_text("\n".join(names))
    return tmp_path / "list.txt"
