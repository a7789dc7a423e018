from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from app.cli.common import ExitCode, asked_to_stop
from app.offline.journal import Heading, JournalError, open_journal
from app.offline.listing import folder_or_list
from app.offline.loading import load
from app.offline.predicting import Predictor
from app.offline.scoring import Outputs, Tally, score
from app.settings import Settings
from tests.api.serving import PATIENCE, wait_until
from tests.cli.scoring import command, rows, slow
from tests.pictures import plain
from tests.tiny import tiny_card, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.conftest import Deepemotion


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    deepemotion: Deepemotion, many: Path, slow_checkpoint: Path
) -> None:
    """Killed three times at any moment, and the journal's last line cut as a crash of the system might."""
    arguments = (many.name, "--batch", 4, "--checkpoint", slow_checkpoint)
    assert deepemotion("score", *arguments, "--out", "whole.csv").exit_code == ExitCode.FAILED
    journal = many.with_name("killed.csv.partial")

    def done() -> int:
        return len(journal.read_bytes().splitlines()) if journal.exists() else 0

    for enough in (8, 24, 40):
        process = subprocess.Popen(
            command(*arguments, "--out", "killed.csv"), cwd=many.parent, env=slow(slow_checkpoint)
        )
        wait_until(lambda enough=enough: done() > enough)
        process.kill()
        assert process.wait(PATIENCE) == -signal.SIGKILL
        assert not many.with_name("killed.csv").exists()
        journal.write_bytes(journal.read_bytes()[:-5])
    ran = deepemotion("score", *arguments, "--out", "killed.csv", "--json")
    summary = json.loads(ran.stdout)
    assert summary["resumed"] >= 40
    assert (summary["pictures"], summary["refused"]) == (60, 5)
    for name in ("csv", "csv.errors.csv"):
        assert many.with_name(f"killed.{name}").read_bytes() == many.with_name(f"whole.{name}").read_bytes()
    assert not journal.exists()


@pytest.fixture
def foreground() -> Iterator[None]:
    """As on a terminal. What a shell starts in the background, and its children, do not hear Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("foreground")
def test_ctrl_c_leaves_work_to_go_on_with(
    deepemotion: Deepemotion, many: Path, slow_checkpoint: Path
) -> None:
    arguments = (many.name, "--out", "scores.csv", "--batch", 4)
    process = subprocess.Popen(
        command(*arguments), cwd=many.parent, env=slow(slow_checkpoint), stderr=subprocess.PIPE, text=True
    )
    journal = many.with_name("scores.csv.partial")
    wait_until(lambda: journal.exists() and len(journal.read_bytes().splitlines()) > 8)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == ExitCode.INTERRUPTED, told
    assert re.fullmatch(r"interrupted: \d+ of 60 pictures are done; the same command goes on .*\n", told)
    ran = deepemotion("score", *arguments, "--checkpoint", slow_checkpoint)
    assert "of them were done before" in ran.stdout
    assert len(rows(many.with_name("scores.csv"))) == 55


@pytest.mark.usefixtures("foreground")
def test_ctrl_c_is_heard_where_no_exception_would_be() -> None:
    class Torn:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)  # Python drops whatever a destructor raises

    with asked_to_stop() as asked:
        assert not asked()
        Torn()
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.fixture
def unfinished(deepemotion: Deepemotion, pictures: Path, checkpoint_path: Path) -> Path:
    """The journal of a run that was killed after two of six pictures."""
    deepemotion("score", "pictures", "--out", "whole.csv")
    outputs = Outputs(pictures.parent / "scores.csv")
    loaded = load(Settings(checkpoint=checkpoint_path, device="cpu", threads=1))
    predictor = Predictor(loaded.model, loaded.devices, batch=2, workers=1, max_pixels=50_000_000)

    def stop(tally: Tally) -> None:
        if tally.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(loaded.model, predictor, folder_or_list("pictures"), outputs, tell=stop)
    return outputs.journal


def test_an_unfinished_run_goes_on_with_the_same_list_and_checkpoint_only(
    deepemotion: Deepemotion, unfinished: Path, pictures: Path, tmp_path: Path
) -> None:
    before = unfinished.read_bytes()
    (tmp_path / "newer").mkdir()
    card = tiny_card().model_copy(update={"version": "0.0.2"})
    newer = write_checkpoint(tmp_path / "newer", card=card.model_dump_json())
    ran = deepemotion("score", "pictures", "--out", "scores.csv", "--checkpoint", newer)
    assert ran.exit_code == ExitCode.USAGE
    assert "another checkpoint" in ran.stderr
    assert "--restart" in ran.stderr
    (pictures / "new.png").write_bytes(plain())
    ran = deepemotion("score", "pictures", "--out", "scores.csv")
    assert ran.exit_code == ExitCode.USAGE
    assert "another list of pictures (6, now 7, or others)" in ran.stderr
    assert unfinished.read_bytes() == before
    ran = deepemotion("score", "pictures", "--out", "scores.csv", "--restart", "--json")
    assert (json.loads(ran.stdout)["scored"], json.loads(ran.stdout)["resumed"]) == (5, 0)


def test_an_unfinished_run_does_not_go_on_in_another_precision(unfinished: Path) -> None:
    before = unfinished.read_bytes()
    written = json.loads(before.splitlines()[0])["deepemotion_journal"]
    assert written["precision"] == "float32"
    in_integers = Heading(**written | {"precision": "int8"})
    with (
        pytest.raises(JournalError, match=r"another precision \(float32, now int8\).*--restart"),
        open_journal(unfinished, in_integers, restart=False),
    ):
        pass
    assert unfinished.read_bytes() == before


@pytest.mark.usefixtures("unfinished")
def test_an_unfinished_run_does_not_go_on_with_another_largest_picture(
    deepemotion: Deepemotion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPEMOTION_MAX_PIXELS", "12345")
    ran = deepemotion("score", "pictures", "--out", "scores.csv")
    assert ran.exit_code == ExitCode.USAGE
    assert "another DEEPEMOTION_MAX_PIXELS" in " ".join(ran.stderr.split())


def test_going_on_keeps_what_was_found(deepemotion: Deepemotion, unfinished: Path) -> None:
    ran = deepemotion("score", "pictures", "--out", "scores.csv", "--json")
    assert json.loads(ran.stdout)["resumed"] == 2
    for name in ("csv", "csv.errors.csv"):
        whole, resumed = (unfinished.with_name(f"{stem}.{name}") for stem in ("whole", "scores"))
        assert whole.read_bytes() == resumed.read_bytes()


def test_two_runs_at_once_do_not_mix(deepemotion: Deepemotion, unfinished: Path) -> None:
    with unfinished.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ran = deepemotion("score", "pictures", "--out", "scores.csv")
    assert ran.exit_code == ExitCode.USAGE
    assert "another process" in ran.stderr


@pytest.mark.parametrize("content", [b"whatever\n", b'{"some": "json"}\n{"more": 1}\n', b"\x00" * 300])
def test_a_foreign_file_is_left_alone(deepemotion: Deepemotion, pictures: Path, content: bytes) -> None:
    path = pictures.parent / "scores.csv.partial"
    path.write_bytes(content)
    ran = deepemotion("score", "pictures", "--out", "scores.csv")
    assert ran.exit_code == ExitCode.USAGE
    assert "was not written by this command" in ran.stderr
    assert path.read_bytes() == content


def test_a_table_that_appeared_meanwhile_is_left_alone(deepemotion: Deepemotion, unfinished: Path) -> None:
    unfinished.with_name("scores.csv").write_text("precious")
    assert deepemotion("score", "pictures", "--out", "scores.csv").exit_code == ExitCode.USAGE
    assert unfinished.with_name("scores.csv").read_text() == "precious"
    assert deepemotion("score", "pictures", "--out", "scores.csv", "--force").exit_code == ExitCode.FAILED


def test_somebody_who_watches_sees_how_far_it_is(many: Path, slow_checkpoint: Path) -> None:
    """On a terminal: a bar, the count, the pace, the time that is left, and what was refused."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(many.name, "--out", "scores.csv", "--batch", 4),
        cwd=many.parent,
        env=slow(slow_checkpoint) | {"TERM": "xterm", "COLUMNS": "100"},
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 4096):
            shown += data
    except OSError:  # Linux's way to say that the other side was closed
        pass
    os.close(ours)
    assert process.wait(PATIENCE) == ExitCode.FAILED
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert re.search(r"━+ +\d+/60 \d+\.\d/s 0:00:\d\d \d refused", text)
