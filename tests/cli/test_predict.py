from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from app.cli.common import ExitCode, reader_of
from tests.pictures import BLUE, GREEN, RED, encoded, noise, plain
from tests.tiny import LABELS

if TYPE_CHECKING:
    import httpx

    from tests.cli.conftest import Deepemotion


def lines(text: str) -> list[dict[str, Any]]:
    """A JSON object a line."""
    return [json.loads(line) for line in text.splitlines()]


def test_the_answer_is_the_service_s(deepemotion: Deepemotion, client: httpx.Client, tmp_path: Path) -> None:
    data = encoded(noise((60, 40)), "JPEG")
    (tmp_path / "a.jpg").write_bytes(data)
    ran = deepemotion("predict", "a.jpg", "--json")
    assert (ran.exit_code, ran.stderr) == (0, "")
    (found,) = lines(ran.stdout)
    said = client.post("/predict", content=data).json()
    del said["request_id"]
    assert found.pop("path") == "a.jpg"
    assert found == said


def test_pictures_keep_their_order_and_bad_ones_are_told_apart(
    deepemotion: Deepemotion, tmp_path: Path
) -> None:
    for name, data in {"1.png": plain(RED), "2.png": b"", "3.webp": plain(BLUE, file_format="WEBP")}.items():
        (tmp_path / name).write_bytes(data)
    ran = deepemotion("predict", "3.webp", "2.png", "missing.jpg", "1.png", "--json")
    assert ran.exit_code == ExitCode.FAILED
    assert [(each["path"], each["dominant"]["emotion"]) for each in lines(ran.stdout)] == [
        ("3.webp", "sadness"),
        ("1.png", "anger"),
    ]
    assert [(each["path"], each["problem"]) for each in lines(ran.stderr)] == [
        ("2.png", "empty-picture"),
        ("missing.jpg", "unreadable-file"),
    ]


def test_what_is_passed_over_is_told(deepemotion: Deepemotion, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "green.png").write_bytes(plain(GREEN))
    (tmp_path / "in" / "notes.txt").touch()
    assert "passed over: 1 .txt" in deepemotion("predict", "in").stderr


COMMAND = shlex.join((sys.executable, "-m", "app"))


def as_a_user(line: str, checkpoint: Path, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """What a line of the shell says and how it ends."""
    environment = os.environ | {"DEEPEMOTION_CHECKPOINT": str(checkpoint), "DEEPEMOTION_THREADS": "1"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    return subprocess.run(
        ("sh", "-c", line), cwd=folder, env=environment, capture_output=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("predict - <&-", "stdin is closed"),
        ("explain - --out o.png <&-", "stdin is closed"),
        ("explain green.png --out - >&-", "stdout is closed"),
        (f"explain green.png --emotion joy --out {'x' * 300}.png", "too long"),
        ("explain green.png --out folder.png --force", "is a folder"),
        ("score green.png --out o.csv", "is a picture"),
        ("score list.txt --out folder.csv --force", "is a folder"),
    ],
)
def test_what_cannot_be_used_is_told_without_a_traceback(
    checkpoint_path: Path, tmp_path: Path, arguments: str, words: str
) -> None:
    (tmp_path / "green.png").write_bytes(plain(GREEN))
    (tmp_path / "list.txt").write_text("green.png\n", "utf-8")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.csv").mkdir()
    ran = as_a_user(f"{COMMAND} {arguments}", checkpoint_path, tmp_path)
    assert ran.returncode in {ExitCode.FAILED, ExitCode.USAGE}
    assert words in " ".join(ran.stderr.decode().split()).replace("- ", "-")
    assert b"Traceback" not in ran.stderr


def test_a_terminal_of_few_letters(checkpoint_path: Path, tmp_path: Path) -> None:
    (tmp_path / "ж.png").write_bytes(plain(GREEN))
    ran = as_a_user(f"PYTHONIOENCODING=ascii {COMMAND} predict ж.png", checkpoint_path, tmp_path)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert b"joy" in ran.stdout


def test_stdin_is_read_where_ctrl_c_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    class Asked(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            threads.append(threading.current_thread())
            return super().read(size)

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(Asked(b"a picture")))
    read = reader_of(["a.png", "-"])
    found: list[bytes] = []
    reading = threading.Thread(target=lambda: found.append(read("-")))
    reading.start()
    reading.join()
    assert found == [b"a picture"]
    assert threads == [threading.main_thread()]


def test_bars_for_people_the_strongest_first(deepemotion: Deepemotion, tmp_path: Path) -> None:
    (tmp_path / "green.png").write_bytes(plain(GREEN))
    ran = deepemotion("predict", "green.png", "none.png")
    heading, first, *others = ran.stdout.splitlines()
    assert heading == "green.png  64 x 48 PNG"
    assert first.split()[0] == "joy"
    assert "█" in first
    assert {line.split()[0] for line in others} == {"anger", "sadness"}
    assert ran.stderr == "error: none.png: No such file or directory\n"


def test_a_checkpoint_that_abstains(
    deepemotion: Deepemotion, judge: httpx.Client, judging_path: Path, tmp_path: Path
) -> None:
    data = plain((0, 0, 0))
    (tmp_path / "black.png").write_bytes(data)
    (tmp_path / "grey.png").write_bytes(plain((128, 128, 128)))
    options = ("--checkpoint", judging_path, "--top-k", 2)
    (found,) = lines(deepemotion("predict", "black.png", "--json", *options).stdout)
    said = judge.post("/predict", content=data, params={"top_k": 2}).json()
    assert {name: found[name] for name in found if name != "path"} == {
        name: said[name] for name in said if name != "request_id"
    }
    told = deepemotion("predict", "black.png", "grey.png", *options).stdout
    assert "do not rely on this: the picture is unlike those" in told
    assert "do not rely on this: no emotion stands out" in told
    assert told.count("valence -0.17 (made up, -1 to 1)") == 2
    assert told.count("33.3%") == 4  # two emotions each


def test_folders_and_patterns(deepemotion: Deepemotion, tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("in/b.png", "in/deep/a.png", "in/deep/notes.txt", "c1.png", "c2.png", "c[3].png"):
        (tmp_path / name).write_bytes(plain())
    ran = deepemotion("predict", "c*.png", "in", "c[3].png", "nothing*.png", "--json")
    paths = [each["path"] for each in lines(ran.stdout)]
    assert paths == ["c1.png", "c2.png", "c[3].png", "in/b.png", "in/deep/a.png", "c[3].png"]
    assert [each["path"] for each in lines(ran.stderr)] == ["nothing*.png"]


def test_stdin(deepemotion: Deepemotion) -> None:
    ran = deepemotion("predict", "-", "--json", stdin=plain(BLUE))
    (found,) = lines(ran.stdout)
    assert (found["path"], found["dominant"]["emotion"]) == ("-", "sadness")


def test_more_pictures_than_a_batch_holds(deepemotion: Deepemotion, tmp_path: Path) -> None:
    colours = [RED, GREEN, BLUE] * 7
    for number, colour in enumerate(colours):
        (tmp_path / f"{number:02}.png").write_bytes(plain(colour))
    found = lines(deepemotion("predict", ".", "--json").stdout)
    assert [each["dominant"]["emotion"] for each in found] == list(LABELS) * 7


def test_any_file_name_can_be_told(deepemotion: Deepemotion, tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\x1b[31m\n.png")
    (tmp_path / name).write_bytes(plain(RED))
    ran = deepemotion("predict", name)
    assert ran.stdout.startswith(r"\xff\x1b[31m\n.png  64 x 48 PNG")
    (found,) = lines(deepemotion("predict", name, "--json").stdout)
    assert found["path"] == name


def test_a_folder_without_pictures_is_wrong_usage(deepemotion: Deepemotion) -> None:
    ran = deepemotion("predict", ".")
    assert ran.exit_code == ExitCode.USAGE
    assert "no pictures" in ran.stderr


@pytest.mark.parametrize("verb", [("predict", "a.png"), ("explain", "a.png"), ("card",)])
def test_a_checkpoint_that_cannot_be_used(
    deepemotion: Deepemotion, tmp_path: Path, verb: tuple[str, ...]
) -> None:
    (tmp_path / "a.png").write_bytes(plain())
    (tmp_path / "other.pt").write_bytes(b"not listed")
    ran = deepemotion(*verb, "--checkpoint", "other.pt")
    assert ran.exit_code == ExitCode.CHECKPOINT
    assert ran.stdout == ""
    told = "SHA256SUMS is missing: it must list the sha256 of other.pt; deepemotion doctor says what to do"
    assert ran.stderr == f"error: {tmp_path}/{told}\n"


@pytest.mark.parametrize("verb", [("predict", "a.png"), ("score", ".", "--out", "a.csv"), ("card",)])
def test_a_checkpoint_that_is_not_there_from_here(
    deepemotion: Deepemotion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]
) -> None:
    (tmp_path / "a.png").write_bytes(plain())
    monkeypatch.setenv("DEEPEMOTION_CHECKPOINT", "models/emotion6.pt")
    ran = deepemotion(*verb)
    assert ran.exit_code == ExitCode.CHECKPOINT
    assert f"no checkpoint at {tmp_path}/models/emotion6.pt; DEEPEMOTION_CHECKPOINT says" in ran.stderr


def test_a_device_that_is_not_there(deepemotion: Deepemotion, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(plain())
    assert deepemotion("predict", "a.png", "--device", "cuda:99").exit_code == ExitCode.CHECKPOINT


def test_a_setting_that_cannot_work(deepemotion: Deepemotion) -> None:
    ran = deepemotion("predict", "a.png", "--device", "abacus")
    assert ran.exit_code == ExitCode.USAGE
    assert ran.stderr.startswith("device: ")


def test_a_list_that_is_not_json(deepemotion: Deepemotion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPEMOTION_CORS_ORIGINS", "https://example.org")
    ran = deepemotion("predict", "a.png")
    assert ran.exit_code == ExitCode.USAGE
    assert "cors_origins" in ran.stderr
    assert "JSON" in ran.stderr
