from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pytest
import torch

from app.card import Score
from app.loading import load
from tests.training.colours import SIDE, colour_set
from training.__main__ import main
from training.fit import FitSettings
from training.head import fit_head
from training.run import RunError
from training.sources import SourceOptions
from training.sources import load as load_source
from training.study import StudyError, study
from training.study_table import Condition, Row, conditions

if TYPE_CHECKING:
    from pathlib import Path


def words_for(pictures: Path, weights: Path, folder: Path) -> list[str]:
    words = ["study", "image_folder", str(pictures), "--out", str(folder), "--weights", str(weights)]
    return [*words, "--side", str(SIDE), "--epochs", "1", "--batch", "8", "--rate", "5e-6", "--device", "cpu"]


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory, colour_folder: Path, start_file: Path) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "colours"
    words = words_for(colour_folder, start_file, folder)
    assert main([*words, "--targets", "class", "--thresholds", "0,0.5", "--classes", "all,2"]) == 0
    return folder


def test_the_table_has_a_row_for_every_condition(studied: Path) -> None:
    with (studied / "study.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [(row["layers"], row["threshold"], row["classes"]) for row in rows] == [
        (layers, threshold, classes)
        for layers in ("head", "all")
        for threshold in ("0", "0.5")
        for classes in ("all", "2")
    ]
    for row in rows:
        labels, pictures = (3, 30) if row["classes"] == "all" else (2, 20)
        assert (int(row["labels"]), int(row["pictures"])) == (labels, pictures)
        assert int(row["tested"]) == pictures // 5
        assert float(row["chance"]) == pytest.approx(1 / labels, abs=1e-4)
        assert float(row["accuracy_low"]) <= float(row["accuracy"]) <= float(row["accuracy_high"])
        assert float(row["accuracy"]) > 2 / 3
    text = (studied / "study.md").read_text("utf-8")
    assert "30 pictures, 3 emotions" in text
    assert sum(line.startswith("| ") for line in text.splitlines()) == 1 + len(rows)


def test_what_is_finished_is_not_done_again(
    studied: Path, colour_folder: Path, start_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in studied.rglob("*") if path.suffix != ".csv"}
    kept = {path for path in before if path.name in {"features.npz", "best.safetensors", "log.csv"}}
    words = [*words_for(colour_folder, start_file, studied), "--targets", "class", "--thresholds", "0"]
    assert main([*words, "--classes", "all"]) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == {path: before[path] for path in kept}
    assert "agreement" in capsys.readouterr().out


def test_what_was_kept_of_other_pictures_is_not_taken_for_these(
    studied: Path, colour_folder: Path, start_file: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(studied, tmp_path / "again")
    whole, cpu = colour_set(colour_folder, agreement=1.0), torch.device("cpu")
    turned = whole.subset(np.arange(len(whole))[::-1])
    settings = FitSettings(weights=str(start_file), side=SIDE, epochs=1, batch=8, rate=5e-6)
    before = np.load(folder / "features.npz")["features"]
    head, everything = (Condition(layers, "class", 0, None) for layers in ("head", "all"))
    study(turned, settings, [head], folder, device=cpu, command="", report=lambda _: None)
    assert np.load(folder / "features.npz")["features"] == pytest.approx(before[::-1], abs=1e-5)
    with pytest.raises(RunError, match="begun with other settings: pictures"):
        study(turned, settings, [everything], folder, device=cpu, command="", report=lambda _: None)


def test_keeping_as_many_classes_as_there_are_is_keeping_all() -> None:
    asked = conditions(6, layers=["head"], targets=["class"], thresholds=[0.0, 0.5], classes=[None, 6, 4])
    assert asked == [
        Condition("head", "class", threshold, classes) for threshold in (0.0, 0.5) for classes in (None, 4)
    ]
    assert asked[-1].name == "head-class-0.5-4"


def test_a_condition_that_leaves_too_little_says_so(
    tmp_path: Path, colour_folder: Path, start_file: Path
) -> None:
    settings = FitSettings(weights=str(start_file), side=SIDE)
    asked = [Condition("head", "distribution", 0.9, None), Condition("head", "distribution", 0.5, None)]
    rated = colour_set(colour_folder)
    told: list[Row] = []
    cpu = torch.device("cpu")
    rows = study(rated, settings, asked, tmp_path, device=cpu, command="", report=told.append)
    assert "agreement of at least 0.9" in rows[0].refused
    assert rows[1].scores is not None
    assert told == rows
    assert "agreement of at least 0.9" in (tmp_path / "study.md").read_text("utf-8")


def test_a_set_that_nothing_is_learned_from_stops_the_study_and_says_why(
    tmp_path: Path, colour_folder: Path, start_file: Path
) -> None:
    rated = colour_set(colour_folder, agreement=1.0)
    wrong = replace(rated, agreement=np.random.default_rng(5).permutation(rated.agreement))
    settings = FitSettings(weights=str(start_file), side=SIDE)
    asked = [Condition("head", "class", 0.0, None)]
    cpu = torch.device("cpu")
    with pytest.raises(StudyError, match=r"the last layer alone finds .* do not belong together") as caught:
        study(wrong, settings, asked, tmp_path, device=cpu, command="", report=lambda _: None)
    assert "66.7% is the least for 3 emotions" in str(caught.value)
    assert not (tmp_path / "study.csv").exists()


@pytest.mark.parametrize(
    ("accuracy", "balanced", "said", "unsaid"),
    [
        (0.70, 0.35, "36.7% or less for 3 emotions is that of always answering the same", "the least"),
        (
            0.666,
            0.50,
            "66.6% of the test pictures (50.0% as a mean over emotions); 66.7% is the least",
            "same",
        ),
        (0.50, 0.33, "66.7% is the least for 3 emotions, and a mean of 36.7% or less", "none of both"),
    ],
)
def test_a_refusal_names_the_figure_that_is_too_low(
    accuracy: float,
    balanced: float,
    said: str,
    unsaid: str,
    tmp_path: Path,
    colour_folder: Path,
    start_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reached = {
        name: Score(value=value, low=value, high=value)
        for name, value in (("accuracy", accuracy), ("balanced_accuracy", balanced))
    }
    monkeypatch.setattr("training.study._scores", lambda *_, **__: reached)
    monkeypatch.setattr("training.study.causes", lambda *_, **__: ["so it is"])
    settings, cpu = FitSettings(weights=str(start_file), side=SIDE), torch.device("cpu")
    asked = [Condition("head", "class", 0.0, None)]
    with pytest.raises(StudyError) as caught:
        study(
            colour_set(colour_folder),
            settings,
            asked,
            tmp_path,
            device=cpu,
            command="",
            report=lambda _: None,
        )
    assert said in str(caught.value)
    assert unsaid not in str(caught.value)


def test_a_run_of_the_study_becomes_a_checkpoint_with_a_report(
    studied: Path, colour_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, path = studied / "all-class-0.5-2", tmp_path / "two.pt"
    assert main(["export", "image_folder", str(colour_folder), "--run", str(run), "--output", str(path)]) == 0
    card = load(path, torch.device("cpu")).card
    assert (card.target, card.split.min_agreement, card.split.top_classes) == ("class", 0.5, 2)
    assert [line.split()[3] for line in card.command.splitlines()] == ["study", "export"]
    words = ["report", "image_folder", str(colour_folder), str(path), "--device", "cpu", "--run"]
    assert main([*words, str(run), "--out", str(tmp_path / "report")]) == 0
    assert (tmp_path / "report" / "report.html").exists()
    capsys.readouterr()
    assert main([*words, str(studied / "all-class-0-2"), "--out", str(tmp_path / "other")]) == 1
    assert "was made of the run" in capsys.readouterr().err  # the same command, another condition


@pytest.mark.parametrize(
    "wrong",
    [
        ["--layers", "some"], ["--targets", "votes"], ["--thresholds", "0,50"], ["--classes", "few"],
        ["--head-pictures", "9"], ["--target", "nonsense"],
    ],
)  # fmt: skip
def test_wrong_conditions_are_wrong_usage(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["study", "image_folder", ".", "--out", "x", *wrong])
    assert caught.value.code == 2


def test_a_teacher_of_some_emotions_is_no_reason_to_refuse_the_rows_that_ask_for_none(
    tmp_path: Path, colour_folder: Path, start_file: Path
) -> None:
    words = [*words_for(colour_folder, start_file, tmp_path), "--targets", "class", "--thresholds", "0"]
    assert main([*words, "--classes", "all", "--teacher-share", "0.5"]) == 0
    with (tmp_path / "study.csv").open(newline="") as file:
        alone, every = csv.DictReader(file)
    assert float(alone["accuracy"]) > 1 / 3
    assert "--teacher-share needs a teacher" in every["refused"]


def test_features_that_were_not_written_to_the_end_are_none(
    colour_folder: Path, start_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: BinaryIO, **_: object) -> None:
        file.write(b"PK")
        raise OSError("no space left")

    words = [*words_for(colour_folder, start_file, tmp_path), "--targets", "class", "--thresholds", "0"]
    words += ["--classes", "all", "--layers", "head"]
    with monkeypatch.context() as patched:
        patched.setattr(np, "savez", full)
        assert main(words) == 1
    assert not any(tmp_path.iterdir())
    assert main(words) == 0


def test_a_table_takes_the_place_of_an_earlier_one_when_it_is_finished(
    colour_folder: Path, start_file: Path, tmp_path: Path
) -> None:
    whole, cpu = colour_set(colour_folder, agreement=1.0), torch.device("cpu")
    settings = FitSettings(weights=str(start_file), side=SIDE)
    first, second = (Condition("head", "class", threshold, None) for threshold in (0.0, 0.5))
    study(whole, settings, [first, second], tmp_path, device=cpu, command="", report=lambda _: None)
    before = (tmp_path / "study.csv").read_text("utf-8")
    told: list[Row] = []

    def cut(row: Row) -> None:
        told.append(row)
        if len(told) > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study(whole, settings, [second, first], tmp_path, device=cpu, command="", report=cut)
    assert (tmp_path / "study.csv").read_text("utf-8") == before
    assert len((tmp_path / "study.unfinished.csv").read_text("utf-8").splitlines()) == 2


def test_a_last_layer_alone_builds_on_that_of_the_start_weights_as_all_layers_do(
    fitted: Path, colour_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    real = fit_head

    def noted(*arguments: Any) -> object:
        given.append(arguments[3] if len(arguments) > 3 else None)
        return real(*arguments)

    monkeypatch.setattr("training.study.fit_head", noted)
    rated = load_source("image_folder", colour_folder, SourceOptions(terms="free"))
    settings = FitSettings(weights=str(fitted / "best.safetensors"), side=SIDE)
    asked, cpu = [Condition("head", "distribution", 0.0, None)], torch.device("cpu")
    study(rated, settings, asked, tmp_path, device=cpu, command="", seen_test=True, report=lambda _: None)
    assert given[0] is None  # the gate asks what can be learned from nothing
    assert given[-1] is not None
