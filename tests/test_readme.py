"""What README tells a newcomer to type works with the shipped checkpoint, and answers what README shows."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import torch
from PIL import Image

from app.loading import load
from app.main import create_app
from app.settings import Settings
from tests.api.process import Process
from tests.api.serving import PATIENCE, serving
from tests.training.colours import EACH, LABELS, SIDE, draw_folder, write_start_weights
from training.sources import SourceOptions
from training.sources import load as load_source

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
OFFLINE = [text for language, text in BLOCKS if language == "sh" and "deepemotion predict" in text]
PYTHON = [text for language, text in BLOCKS if language == "python"]
TRAINING = [text for language, text in BLOCKS if language == "sh" and "-m training" in text]
TABLES = [text for language, text in BLOCKS if language == "csv"]
STARTS = [
    text
    for language, text in BLOCKS
    if language == "sh" and text.startswith(("make ", "docker ")) and text not in TRAINING
]
CURLS = [text for language, text in BLOCKS if language == "sh" and "curl" in text]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The service as ``make serve`` starts it, on a free port."""
    settings = Settings(checkpoint=ROOT / Settings.model_fields["checkpoint"].default, device="cpu")
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
    lines = block.replace("localhost:8000", f"127.0.0.1:{port}")
    lines = re.sub(r"curl (?!-f )", "curl --fail-with-body ", lines).replace("curl ", "curl -s ")
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
    for line in block.splitlines():
        # Else a problem's JSON would lie in the file of a picture.
        assert ("curl -f " in line) == (" -o " in line)
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
    assert "chelsea.jpg" in typed(block, folder, 0)
    assert (folder / "scores.csv").read_text("utf-8").count("\n") == 4
    with Image.open(folder / "fear-map.png") as drawn:
        assert drawn.format == "PNG"


@pytest.mark.parametrize("block", PYTHON)
def test_the_client(block: str, folder: Path, port: int) -> None:
    lines = block.replace("localhost:8000", f"127.0.0.1:{port}")
    done = subprocess.run(
        [sys.executable, "-c", lines], cwd=folder, check=True, capture_output=True, text=True, env=os.environ
    )
    picture = (ROOT / "app/web/samples/chelsea.jpg").read_bytes()
    answer = httpx.post(f"http://127.0.0.1:{port}/predict", content=picture, timeout=PATIENCE).json()
    assert done.stdout == f"{answer['dominant']['emotion']}\n"


@pytest.mark.parametrize("language", ["python", "js"])
def test_the_samples_of_the_api_s_page(language: str, folder: Path, port: int) -> None:
    page = runpy.run_path(str(ROOT / "docs" / "write_openapi.py"))["HEAD"]
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    lines = block.replace("localhost:8000", f"127.0.0.1:{port}")
    command = [sys.executable, "-c", lines]
    if language == "js":
        if shutil.which("node") is None:
            pytest.skip("JavaScript needs node")
        (folder / "sample.mjs").write_text(lines, "utf-8")
        command = ["node", "sample.mjs"]
    printed = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    shown = json.loads(next(text for language, text in BLOCKS if language == "json"))
    said = shown["abstained"] if language == "python" else shown["abstained_because"] or "null"
    assert printed == f"{shown['dominant']['emotion']} {said}\n"


def test_every_block_has_a_test() -> None:
    tested = [*OFFLINE, *PYTHON, *TRAINING, *TABLES, *STARTS, *CURLS]
    assert [text for language, text in BLOCKS if text not in tested and language != "json"] == []
    assert len(tested) == len(set(tested))
    assert sum(language == "json" for language, _ in BLOCKS) == 1  # compared with the answer that comes


def dry_run(target: str) -> list[str]:
    """The commands with which make makes a target when nothing is there yet."""
    words = ["make", "--dry-run", "--always-make", "--no-print-directory", target, "TORCH=cpu"]
    return subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()


@pytest.mark.parametrize("block", STARTS)
def test_what_starts_things(block: str) -> None:
    """As far as it goes without building environments and images, which other targets of make do."""
    if block == "docker compose up\n":
        assert 'run("up"' in (ROOT / "tests" / "container.py").read_text("utf-8")
        return
    assert re.fullmatch(r"make \S+\n", block)
    assert dry_run(block.split()[1])[-1] in {
        ".venv/serve/bin/deepemotion serve",  # the process of the training block
        ".venv/dev/bin/python -m pytest",  # this very run
    }


def test_the_table_is_one(tmp_path: Path) -> None:
    (block,) = TABLES
    (tmp_path / "ratings.csv").write_text(block, "utf-8")
    for row in block.splitlines()[1:]:
        Image.new("RGB", (8, 8)).save(tmp_path / row.partition(",")[0])
    rated = load_source("cap_d", tmp_path / "ratings.csv", SourceOptions(near_duplicates=False))
    assert rated.labels == ("awe", "fear", "joy")
    assert rated.agreement[1].tolist() == pytest.approx([0.4, 0.55, 0.05])


def test_the_training_block_ends_in_a_service_that_answers(tmp_path: Path) -> None:
    """With thirty tiny pictures and random start weights, so that it takes seconds."""
    (block,) = TRAINING
    install, *training, start = block.splitlines()
    assert install == "make training && . .venv/training/bin/activate"
    made = dry_run("training")
    assert ".venv/training/bin/pip install --quiet --editable '.[training]'" in made  # what the tests run in
    assert any(line.startswith("sh deploy/install_torch.sh .venv/training/bin/python cpu ") for line in made)
    drawn = draw_folder(tmp_path / "images")
    rows = [
        f"{label}/{place:02}.png,20,{','.join('0.8' if other == label else '0.1' for other in LABELS)}"
        for label in LABELS
        for place in range(EACH)
    ]
    table = [f"picture,raters,{','.join(LABELS)}", *rows]
    (drawn.parent / "ratings.csv").write_text("\n".join(table) + "\n", "utf-8")
    weights = write_start_weights(tmp_path / "start.safetensors")
    tiny = f" --weights {weights} --side {SIDE} --epochs 1 --batch 8 --device cpu"
    commands = [line + tiny if " fit " in line else line for line in training]
    assert sum(tiny in line for line in commands) == 1
    typed("\n".join(commands), tmp_path, 0)
    (tmp_path / "models" / "mine.md").read_text("utf-8").index("our own")

    setting, *rest = start.split()
    assert rest == ["make", "serve"]
    name, _, path = setting.partition("=")
    with (
        Process(**{name: str(tmp_path / path), "DEEPEMOTION_DEVICE": "cpu"}) as served,
        httpx.Client(base_url=served.ready(), timeout=PATIENCE) as client,
    ):
        picture = (drawn / "red" / "00.png").read_bytes()
        answer = client.post("/predict", content=picture).json()
    assert list(answer["distribution"]) == list(LABELS)
    assert answer["model"]["sha256"] == load(tmp_path / path, torch.device("cpu")).sha256


def test_how_good_it_is_said_to_be_is_what_the_card_says() -> None:
    card = (ROOT / "models" / "emotion6.md").read_text("utf-8")
    (row,) = re.findall(r"^\| accuracy_when_clear_and_common \|(.*)$", card, re.MULTILINE)
    value, low, high, _, majority, _, raters = (float(each) for each in re.findall(r"\d\.\d+", row))
    told = re.findall(r"(\d+) %|\((\d+) to (\d+) %\)", README[README.index("## How good is it?") :])
    assert [int(each) for match in told for each in match if each] == [
        round(100 * figure) for figure in (value, low, high, majority, raters)
    ]


def test_every_link_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
