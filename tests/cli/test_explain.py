from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from app.cli.common import ExitCode
from tests.pictures import RED, encoded, noise, plain
from tests.tiny import write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from tests.cli.conftest import Deepemotion

PHOTO = encoded(noise((60, 40)), "JPEG")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(PHOTO)
    return path


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"emotion": "sadness", "view": "heatmap", "colours": "cividis"},
        {"view": "dream", "quality": "thorough"},
        {"view": "pair", "strength": "0.5"},
        {"view": "sheet"},
    ],
)
def test_the_png_is_the_service_s(
    deepemotion: Deepemotion, client: httpx.Client, photo: Path, wish: dict[str, str]
) -> None:
    options = [word for name, value in wish.items() for word in (f"--{name}", value)]
    ran = deepemotion("explain", photo.name, *options, "--out", "out.png")
    assert ran.exit_code == 0
    said = client.post("/explain", params=wish, content=PHOTO)
    assert (photo.parent / "out.png").read_bytes() == said.content


def test_a_legend_and_a_size(deepemotion: Deepemotion, client: httpx.Client, photo: Path) -> None:
    deepemotion("explain", photo.name, "--legend", "--max-side", "30", "--out", "out.png")
    said = client.post("/explain", params={"legend": True, "max_side": 30}, content=PHOTO)
    assert (photo.parent / "out.png").read_bytes() == said.content


@pytest.mark.parametrize("view", ["overlay", "sheet"])
def test_the_facts_are_the_service_s(
    deepemotion: Deepemotion, client: httpx.Client, photo: Path, view: str
) -> None:
    facts = json.loads(
        deepemotion("explain", photo.name, "--view", view, "--out", "out.png", "--json").stdout
    )
    headers = {"Accept": "application/json"}
    said = client.post("/explain", params={"view": view}, content=PHOTO, headers=headers).json()
    del said["request_id"]
    for each in said["explanations"]:
        del each["map"]
    assert (facts.pop("path"), facts.pop("out"), facts.pop("view")) == ("photo.jpg", "out.png", view)
    assert facts == said


def test_the_file_is_named_for_what_it_shows(deepemotion: Deepemotion, tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(plain(RED))
    ran = deepemotion("explain", "red.png")
    assert ran.exit_code == 0
    assert (tmp_path / "red-anger-overlay.png").is_file()
    first, last = ran.stdout.splitlines()
    assert first.startswith("anger")
    assert "imbalance" in first
    assert last.split() == ["overlay", "red-anger-overlay.png"]
    deepemotion("explain", "red.png", "--view", "sheet")
    assert (tmp_path / "red-sheet.png").is_file()


@pytest.mark.parametrize("out", [("--out", "out.png"), ()])
def test_what_is_there_is_never_replaced_unasked(
    deepemotion: Deepemotion, photo: Path, out: tuple[str, ...]
) -> None:
    written = photo.with_name("out.png" if out else "photo-joy-overlay.png")
    written.write_bytes(b"precious")
    arguments = ("explain", photo.name, "--emotion", "joy", *out)
    ran = deepemotion(*arguments)
    assert (ran.exit_code, written.read_bytes()) == (ExitCode.USAGE, b"precious")
    assert "--force" in ran.stderr
    assert deepemotion(*arguments, "--force").exit_code == 0
    assert written.read_bytes().startswith(b"\x89PNG")


def test_from_stdin_to_stdout(deepemotion: Deepemotion, photo: Path) -> None:
    ran = deepemotion("explain", "-", "--out", "-", "--json", stdin=PHOTO)
    assert ran.stdout_bytes.startswith(b"\x89PNG")
    assert json.loads(ran.stderr)["out"] == "-"
    deepemotion("explain", photo.name, "--out", "out.png")
    assert ran.stdout_bytes == (photo.parent / "out.png").read_bytes()


def test_a_picture_that_cannot_be_read(deepemotion: Deepemotion, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"GIF89a")
    for name, words in (("bad.png", "not a JPEG, PNG or WebP"), ("none.png", "No such file")):
        ran = deepemotion("explain", name)
        assert ran.exit_code == ExitCode.FAILED
        assert f"{name}: " in ran.stderr
        assert words in ran.stderr
    assert list(tmp_path.glob("*-overlay.png")) == []


def test_a_picture_that_the_network_fails_on(deepemotion: Deepemotion, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path, fails_on_white=True)
    (tmp_path / "white.png").write_bytes(plain((255, 255, 255)))
    ran = deepemotion("explain", "white.png", "--checkpoint", checkpoint)
    assert ran.exit_code == ExitCode.FAILED
    assert "white.png: the network failed on this picture" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("photo.jpg", "--emotion", "rage"), "choose one of: anger, joy, sadness"),
        (("photo.jpg", "--view", "sheet", "--emotion", "joy"), "a sheet shows all emotions"),
        (("photo.jpg", "--out", "out.jpg"), "should end in .png"),
        (("photo.jpg", "--out", "nowhere/out.png"), "no folder nowhere"),
        (("-",), "--out"),
        (("photo.jpg", "--strength", "2"), "strength"),
        (("photo.jpg", "--view", "mirror"), "view"),
        (("photo.jpg", "--layer", "smooth"), "this checkpoint shows none"),
        (("photo.jpg", "--layer", "smooth", "--emotion", "joy"), "is of no emotion"),
        (("photo.jpg", "--layer", "smooth", "--method", "occlusion"), "dreams of nothing"),
        (("photo.jpg", "--view", "dream", "--method", "occlusion"), "dreams of nothing"),
        (("photo.jpg", "--quality", "thorough", "--method", "occlusion"), "--quality is of the dream"),
    ],
)
def test_wrong_usage(deepemotion: Deepemotion, photo: Path, arguments: tuple[str, ...], words: str) -> None:
    ran = deepemotion("explain", *arguments, stdin=PHOTO)
    assert ran.exit_code == ExitCode.USAGE
    assert words in " ".join(ran.stderr.split())
    assert list(photo.parent.iterdir()) == [photo]


def test_a_layer(deepemotion: Deepemotion, photo: Path, judging_path: Path) -> None:
    ran = deepemotion("explain", photo, "--layer", "smooth", "--json", "--checkpoint", judging_path)
    assert ran.exit_code == 0, ran.stderr
    assert json.loads(ran.stdout)["explanations"][0]["layer"] == "smooth"
    assert (photo.parent / "photo-smooth-overlay.png").is_file()
    wrong = deepemotion("explain", photo, "--layer", "Mixed_6e", "--checkpoint", judging_path)
    assert (wrong.exit_code, "choose one of: smooth, squashed" in wrong.stderr) == (ExitCode.USAGE, True)


def test_another_method(deepemotion: Deepemotion, photo: Path) -> None:
    ran = deepemotion("explain", photo, "--method", "integrated-gradients", "--json")
    assert ran.exit_code == 0, ran.stderr
    assert json.loads(ran.stdout)["settings"] == "integrated-gradients"
    assert list(photo.parent.glob("photo-*-integrated-gradients-overlay.png"))


def test_another_method_without_its_library(
    deepemotion: Deepemotion, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    ran = deepemotion("explain", photo, "--method", "occlusion")
    assert ran.exit_code == ExitCode.FAILED
    assert "pip install 'deepemotion[compare]'" in ran.stderr
