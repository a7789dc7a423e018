from __future__ import annotations

import csv
import json
import re
import runpy
import shutil
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.torch import save_file
from torch import ones

from tests.training.colours import EACH, LABELS, SIDE
from tests.training.drawing import draw
from training.__main__ import main, parser
from training.verbs.printing import OUT

if TYPE_CHECKING:
    from pathlib import Path

    from app.checkpoint import Checkpoint


def said(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """What went to the output and to the error stream, without the terminal's line breaks."""
    out, err = capsys.readouterr()
    return out, " ".join(err.split())


def rows_of(table: str) -> list[list[str]]:
    """The cells of the rows that a table on the terminal has under its head."""
    return [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in table.splitlines()
        if line.startswith("│")
    ]


def test_fit_writes_a_run_and_its_log(fitted: Path) -> None:
    assert sorted(file.name for file in fitted.iterdir()) == [
        "best.safetensors", "last.safetensors", "log.csv", "run.json"
    ]  # fmt: skip
    record = json.loads((fitted / "run.json").read_text("utf-8"))
    assert record["labels"] == list(LABELS)
    assert record["settings"]["augment"] == ["flip", "crop", "light"]
    assert record["command"].startswith("python -m training fit image_folder ")
    assert record["command"].endswith(" --terms free")
    assert {key: record["split"][key] for key in ("train", "validation", "test")} == {
        "train": 21, "validation": 3, "test": 6
    }  # fmt: skip
    with (fitted / "log.csv").open(newline="") as file:
        assert [row["phase"] for row in csv.DictReader(file)] == ["head", "all"]


def test_a_finished_run_may_be_resumed_and_not_begun_again(
    fitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = json.loads((fitted / "run.json").read_text("utf-8"))["command"].split()[3:]
    log = (fitted / "log.csv").read_text()
    assert main(["fit", "--resume", "--workers", "1", *command[1:]]) == 0
    assert (fitted / "log.csv").read_text() == log
    capsys.readouterr()
    assert main(command) == 1
    assert "error:" in (err := said(capsys)[1])
    assert "holds a run already" in err
    assert main([*command, "--resume", "--seed", "2"]) == 1
    assert "was begun with other settings" in said(capsys)[1]


def test_evaluate_prints_the_scores_of_the_card(
    colour_folder: Path, released: Path, colours: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "image_folder", str(colour_folder), str(released), "--device", "cpu"]
    assert main([*words, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["references"] == colours.card.references
    assert figures["scores"] == {name: score.model_dump() for name, score in colours.card.scores.items()}
    assert main(words) == 0
    rows = {row[0]: row[1:] for row in rows_of(capsys.readouterr().out)}
    score = colours.card.scores["kl"]
    assert rows["kl"][:2] == [f"{score.value:.3f}", f"{score.low:.3f} to {score.high:.3f}"]
    assert rows["kl"][2:] == [
        f"{colours.card.references[name]['kl']:.3f}" for name in colours.card.references
    ]


def test_unseen_pictures_are_scored_whatever_else_they_may_evoke(
    tmp_path: Path,
    colour_folder: Path,
    released: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = tmp_path / "other"
    shutil.copytree(colour_folder, other)
    shutil.copytree(other / "red", other / "amber")  # an emotion that the checkpoint does not know
    words = ["evaluate", "image_folder", str(other), str(released), "--device", "cpu", "--unseen", "--json"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "10 of 40 pictures are left out" in said.err
    assert "majority and mean are those of the scored pictures themselves" in " ".join(said.err.split())
    assert "21 of the 30 pictures that are scored are among those that" in caplog.text
    assert "teacher" not in caplog.text
    assert np.sum(json.loads(said.out)["confusion"]["counts"]) == 30
    shutil.rmtree(other / "red")
    assert main(words) == 1
    assert "has no ratings of red" in capsys.readouterr().err


def test_pictures_that_are_not_those_of_the_training_are_refused(
    tmp_path: Path,
    colour_folder: Path,
    released: Path,
    fitted: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fewer = tmp_path / "colours"
    shutil.copytree(colour_folder, fewer)
    for name in ("00.png", "03.png"):
        (fewer / "red" / name).unlink()
    assert main(["evaluate", "image_folder", str(fewer), str(released), "--device", "cpu"]) == 1
    assert "would count pictures that were learned" in said(capsys)[1]
    output = tmp_path / "models" / "fewer.pt"
    words = ["export", "image_folder", str(fewer), "--run", str(fitted), "--output", str(output)]
    assert main(words) == 1
    assert "would count pictures that were learned" in said(capsys)[1]
    assert not output.exists()


def test_an_untrusted_checkpoint_is_refused(
    tmp_path: Path, colour_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "found.pt"
    path.write_bytes(b"somebody's code")
    assert main(["evaluate", "image_folder", str(colour_folder), str(path), "--device", "cpu"]) == 1
    assert "SHA256SUMS is missing" in said(capsys)[1]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--augment", "flip,upside-down"], "upside-down is refused: a scene on its head does not evoke"),
        (["--side", "74"], "a side of 74 is below 75"),
        (["--dropout", "2"], "--dropout 2 is out of range: it must be a number of at least 0 and below 1"),
        (["--validation-share", "0.6"], "is not between 0 and 0.5"),
        (["--augment", "mixup"], "there is no augmentation 'mixup'"),
        (["--reads", "Mixed_7c,Mixed_9z"], "no such blocks: ['Mixed_9z']"),
        (["--min-agreement", "1.5"], "has an agreement of at least 1.5"),
        (["--top-classes", "9"], "the 9 most common cannot be kept"),
    ],
)
def test_what_fit_refuses_it_refuses_before_the_run_begins(
    tmp_path: Path,
    colour_folder: Path,
    start_file: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    reason: str,
) -> None:
    run = tmp_path / "run"
    command = ["fit", "image_folder", str(colour_folder), "--run", str(run), "--weights", str(start_file)]
    assert main([*command, "--side", str(SIDE), *words]) == 1
    assert reason in said(capsys)[1]
    assert not run.exists()


def test_start_weights_that_cannot_be_used_are_refused(
    tmp_path: Path, colour_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "[unknown] weights.safetensors"
    save_file({"a": ones(1)}, weights)
    run = tmp_path / "run"
    command = ["fit", "image_folder", str(colour_folder), "--run", str(run), "--weights"]
    assert main([*command, str(weights)]) == 1
    assert "[unknown] weights.safetensors lacks the metadata" in said(capsys)[1]
    assert main([*command, str(tmp_path / "missing.safetensors")]) == 1
    assert "missing.safetensors" in said(capsys)[1]
    package = tmp_path / "nsfwjs.tgz"
    package.write_text("not a package")
    assert main(["weights", str(package), str(tmp_path / "out.safetensors")]) == 1
    assert "nsfwjs.tgz is not a package" in said(capsys)[1]
    assert not run.exists()


def test_wrong_usage_is_told_apart_from_a_refusal(capsys: pytest.CaptureFixture[str]) -> None:
    nonsense = ["evaluate", "fi", ".", "m.pt", "--device", "nonsense"]
    workers = ["fit", "fi", ".", "--run", "runs/none", "--workers", "-1"]
    for words in ([], ["fit"], ["paint"], ["frequencies", "flickr", "."], nonsense, workers):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2
    assert "usage: python -m training" in said(capsys)[1]


def test_a_share_that_cannot_be_met_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "fi", ".", "--run", "x", "--validation-share"]
    for share, near in (("0.3", "0.333 or 0.25"), ("0.4", "0.5 or 0.333")):
        with pytest.raises(SystemExit) as caught:
            main([*words, share])
        assert caught.value.code == 2
        assert f"{share} is not one of a whole number of parts; take {near}" in said(capsys)[1]
    for share in ("0", "0.125", "0.33", "0.5"):
        assert parser().parse_args([*words, share]).validation_share == float(share)


def test_frequencies_of_a_folder(colour_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["frequencies", "image_folder", str(colour_folder), "--name", "[odd] name"]) == 0
    _, err = capsys.readouterr()
    assert "[odd] name" in err
    assert rows_of(err) == [
        *([label, str(EACH), str(EACH)] for label in LABELS),
        ["all", "30", "30"],
        ["of them ties", "0", "0"],
    ]


@pytest.fixture
def votes(tmp_path: Path) -> Path:
    """A table of twelve pictures, the votes of ten raters on each, and a column that is no emotion."""
    rows = ["picture;disgust;fear;joy;n;brightness"]
    rng = np.random.default_rng(0)
    for number, counts in enumerate([[7, 2, 1]] * 3 + [[4, 4, 2]] * 2 + [[1, 0, 9]] * 6 + [[2, 5, 3]]):
        draw(tmp_path / "images" / f"p{number}.png", number)
        rows.append(";".join(map(str, [f"p{number}", *counts, 10, rng.random()])))
    path = tmp_path / "cap_d.csv"
    path.write_text("\n".join(rows))
    return path


def test_frequencies_of_a_table_of_votes(votes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["frequencies", "cap_d", str(votes), "--ignore-column", "brightness"]
    assert main([*words, "--min-agreement", "0.5", "--top-classes", "2"]) == 0
    _, err = capsys.readouterr()
    assert "cap_d" in err
    assert rows_of(err) == [
        ["disgust", "5", "3"],
        ["fear", "1", "0"],
        ["joy", "6", "6"],
        ["all", "12", "9"],
        ["of them ties", "2", "0"],
    ]


def test_a_table_with_a_missing_picture_is_refused_or_skipped(
    votes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (votes.parent / "images" / "p11.png").unlink()
    words = ["frequencies", "cap_d", str(votes), "--ignore-column", "brightness"]
    assert main(words) == 1
    assert "1 of 12 pictures of cap_d cannot be read" in said(capsys)[1]
    assert main([*words, "--skip-missing"]) == 0
    assert ["fear", "0", "0"] in rows_of(capsys.readouterr().err)


def test_a_table_whose_columns_are_not_all_emotions_is_refused(
    votes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["frequencies", "cap_d", str(votes)]) == 1
    assert "--ignore-column" in said(capsys)[1]


def test_a_column_of_larger_numbers_than_there_are_raters_is_no_emotion(
    votes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = votes.read_text().splitlines()
    lines[1:] = [line.rpartition(";")[0] + ";128" for line in lines[1:]]  # whole numbers, as counts are
    votes.write_text("\n".join(lines))
    assert main(["frequencies", "cap_d", str(votes)]) == 1
    assert "row 2: 128 of 10 raters chose one emotion" in said(capsys)[1]


def test_the_module_runs_as_a_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "training.__main__")  # it is run anew, as a program
    monkeypatch.setattr(sys, "argv", ["training", "--help"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("training", run_name="__main__")
    assert caught.value.code == 0
    out, _ = capsys.readouterr()
    for verb in ("weights", "frequencies", "fit", "export", "evaluate"):
        assert re.search(rf"^ +{verb}\b", out, re.MULTILINE)


def test_a_device_that_is_not_here_is_wrong_usage(
    colour_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    words = ["fit", "image_folder", str(colour_folder), "--run", str(tmp_path / "run")]
    for device, why in (("cuda:1", "there is no cuda:1 here"), ("meta", "is not cpu, cuda or cuda:N")):
        with pytest.raises(SystemExit, match="2"):
            main([*words, "--device", device])
        assert why in said(capsys)[1]
    assert str(parser().parse_args([*words, "--device", "cuda:0"]).device) == "cuda:0"


def test_names_with_brackets_are_told_as_they_are(
    tmp_path: Path, colour_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    OUT.print("runs/[final]/:fire:.html")
    assert "runs/[final]/:fire:.html" in said(capsys)[0]
    shutil.copytree(colour_folder, tmp_path / "pictures")
    (tmp_path / "pictures" / "red").rename(tmp_path / "pictures" / "[red]")
    assert main(["frequencies", "image_folder", str(tmp_path / "pictures"), "--name", "[mine]"]) == 0
    told = "".join(capsys.readouterr())
    assert "[mine]" in told
    assert ["[red]", str(EACH)] in [row[:2] for row in rows_of(told)]
