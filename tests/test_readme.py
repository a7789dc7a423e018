"""What README tells a newcomer to type works with the shipped checkpoint, and answers what README shows."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from PIL import Image

from app.main import create_app
from app.settings import Settings
from tests.api.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
OFFLINE = [text for language, text in BLOCKS if language == "sh" and "deepemotion predict" in text]
PYTHON = [text for language, text in BLOCKS if language == "python"]
CURLS = [text for language, text in BLOCKS if language == "sh" and "curl" in text]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The service as ``make serve`` starts it, on a free port."""
    settings = Settings(checkpoint=ROOT / "models" / "emotion6.pt", device="cpu")
    with serving(create_app(settings)) as client:
        yield int(httpx.URL(str(client.base_url)).port or 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A place to write to, from which the files that README names can be reached."""
    for name in ("app", "models"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def typed(block: str, folder: Path, port: int) -> str:
    """What the commands print; they must succeed, and so must the requests that they send."""
    lines = block.replace("localhost:8000", f"127.0.0.1:{port}").replace("curl ", "curl --fail-with-body -s ")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", lines],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": path},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="README's commands need curl")
@pytest.mark.parametrize("block", CURLS)
def test_every_request_is_answered(block: str, folder: Path, port: int) -> None:
    typed(block, folder, port)
    for name in re.findall(r"-o (\S+\.png)", block):
        with Image.open(folder / name) as drawn, Image.open(ROOT / "app/web/samples/chelsea.jpg") as sent:
            assert drawn.size == sent.size


@pytest.mark.skipif(shutil.which("curl") is None, reason="README's commands need curl")
def test_the_answer_that_readme_shows_is_the_one_that_comes(folder: Path, port: int) -> None:
    shown = json.loads(next(text for language, text in BLOCKS if language == "json"))
    found = json.loads(typed(next(text for text in CURLS if "json.tool" in text), folder, port))
    assert list(found["distribution"]) == list(shown["distribution"])
    assert found["distribution"] == pytest.approx(shown["distribution"], abs=1e-3)
    assert list(found) == list(shown), "run python docs/write_answer.py"
    assert found["entropy"] == pytest.approx(shown["entropy"], abs=1e-3)
    for name in ("model", "image", "request_id", "abstained", "abstained_because"):
        assert found[name] == shown[name]


@pytest.mark.parametrize("block", OFFLINE)
def test_the_command_line_needs_no_service(block: str, folder: Path) -> None:
    assert "joy" in typed(block, folder, 0)
    assert (folder / "scores.csv").read_text("utf-8").count("\n") == 4
    with Image.open(folder / "fear-map.png") as drawn:
        assert drawn.format == "PNG"


@pytest.mark.parametrize("block", PYTHON)
def test_the_client(block: str, folder: Path, port: int) -> None:
    lines = block.replace("localhost:8000", f"127.0.0.1:{port}")
    done = subprocess.run(
        [sys.executable, "-c", lines], cwd=folder, check=True, capture_output=True, text=True, env=os.environ
    )
    assert done.stdout == "joy\n"


@pytest.mark.parametrize("block", [text for language, text in BLOCKS if language == "sh" and "make " in text])
def test_every_make_target_exists(block: str) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"make (\w[\w-]*)", block):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_link_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
