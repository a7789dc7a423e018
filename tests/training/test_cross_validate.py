from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from app.loading import load as load_checkpoint
from tests.training.colours import EACH, LABELS, SIDE, colour_set
from training.__main__ import main
from training.calibrate import fit_temperature
from training.cross_validate import (
    CrossValidated,
    Plan,
    cross_validate,
    judge,
    load,
)
from training.evaluate import EvaluationError, probabilities
from training.fit import FitSettings
from training.metrics import hits, reference_levels
from training.out_of_fold import OutOfFold, cross_fitted, kept_outputs
from training.partition import cross_validation
from training.run import Run, RunError

if TYPE_CHECKING:
    from pathlib import Path

    from training.affective_set import AffectiveSet

FOLDS = 2
CPU = torch.device("cpu")


def words_for(pictures: Path, weights: Path, folder: Path) -> list[str]:
    """A cross-validation of the last layer alone, on the command line."""
    words = ["crossval", "image_folder", str(pictures), "--out", str(folder), "--folds", str(FOLDS)]
    words += ["--weights", str(weights), "--side", str(SIDE), "--epochs", "0", "--validation-share", "0.25"]
    return [*words, "--device", "cpu"]


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory, colour_folder: Path, start_file: Path) -> Path:
    """The folder of a finished cross-validation."""
    folder = tmp_path_factory.mktemp("runs") / "crossval"
    assert main(words_for(colour_folder, start_file, folder)) == 0
    return folder


@pytest.fixture(scope="module")
def rated(colour_folder: Path) -> AffectiveSet:
    return colour_set(colour_folder)


def test_every_picture_is_scored_once_by_a_network_that_has_not_learned_from_it(validated: Path) -> None:
    kept = np.load(validated / "out_of_fold.npz")
    assert kept["logits"].shape == (1, 30, 3)
    assert np.isfinite(kept["logits"]).all()
    assert np.isfinite(kept["novelty"]).all()
    assert sorted(np.bincount(kept["fold"][0])) == [15, 15]
    assert kept["labels"].tolist() == list(LABELS)
    assert {name.split("/")[0] for name in kept["pictures"]} == set(LABELS)
    for fold in range(FOLDS):
        part = np.load(validated / "repeat-1" / f"fold-{fold + 1}" / "outputs.npz")
        assert np.flatnonzero(kept["fold"][0] == fold).tolist() == part["indices"].tolist()
        assert np.array_equal(kept["logits"][0, part["indices"]], part["logits"])
        record = json.loads((validated / "repeat-1" / f"fold-{fold + 1}" / "run.json").read_text("utf-8"))
        assert record["data"][-1]["pictures"] < 15, "the other fold, less what chose the best epoch"


def test_what_is_found_follows_from_the_logits(validated: Path) -> None:
    kept, found = np.load(validated / "out_of_fold.npz"), load(validated)
    logits, rated = kept["logits"][0], kept["agreement"]
    assert found.temperature == pytest.approx(fit_temperature(logits, rated))
    assert found.scores["accuracy"].value == pytest.approx(hits(probabilities(logits, 1.0), rated).mean())
    assert sum(map(sum, found.plots.confusion.counts)) == pytest.approx(30)
    assert found.cross_validation.networks == FOLDS
    assert (found.split.train, found.split.validation, found.split.test) == (30, 0, 0)
    each = [
        hits(probabilities(logits[inside], 1.0), rated[inside]).mean()
        for inside in (kept["fold"][0] == fold for fold in range(FOLDS))
    ]
    spread = found.cross_validation.spread["accuracy"]
    assert (spread.mean, spread.sd) == pytest.approx((np.mean(each), np.std(each, ddof=1)))


def test_the_raters_level_knows_the_votes_of_pictures_that_a_filter_left_out(
    validated: Path, rated: AffectiveSet
) -> None:
    """As if these were what was left of a set with as many others, on which nobody agreed."""
    votes = np.concatenate([10 * rated.agreement, np.full((30, 3), 10 / 3)])
    kept_there, record = np.load(validated / "out_of_fold.npz"), Run(validated).record()
    found = OutOfFold(kept_there["logits"], kept_there["novelty"], kept_there["fold"])
    whole, kept = (
        judge(each, found, Plan(folds=FOLDS), record, seed=0).references["raters"]
        for each in (rated, replace(rated, chosen_from=votes))
    )
    truth, common = rated.agreement, np.arange(0)
    levels = reference_levels(truth, truth, rated.raters, seed=0, common=common, votes=votes)
    assert kept == levels["raters"] != whole


def test_a_finished_fold_is_not_trained_again(
    tmp_path: Path, validated: Path, colour_folder: Path, start_file: Path
) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(validated, folder)
    first, second = (folder / "repeat-1" / f"fold-{number}" for number in (1, 2))
    shutil.rmtree(second)
    for name in ("scores.json", "out_of_fold.npz"):
        (folder / name).unlink()
    (first / "best.safetensors").unlink()  # would be missed, were the fold touched
    with pytest.raises(RunError, match="no finished cross-validation"):
        load(folder)
    words = words_for(colour_folder, start_file, folder)
    assert main(words) == 1, "only --resume goes on"
    assert main([*words, "--resume"]) == 0
    assert not (first / "best.safetensors").exists()
    assert load(folder) == load(validated)


def test_going_on_with_pictures_in_another_order_is_refused(
    tmp_path: Path, validated: Path, rated: AffectiveSet, start_file: Path
) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(validated, folder)
    (folder / "scores.json").unlink()
    settings = FitSettings(weights=str(start_file), side=SIDE, epochs=0)
    plan, notes = Plan(FOLDS, validation_share=0.25), json.loads((folder / "run.json").read_text("utf-8"))
    kept = {"split": notes["split"], "command": notes["command"]}
    whole = replace(rated, agreement=np.eye(len(LABELS))[rated.dominant], raters=None)  # as it was begun
    for other in (whole.subset(np.arange(len(rated))[::-1]), replace(whole, groups=whole.groups // 2)):
        with pytest.raises(RunError, match="begun with other settings: pictures"):
            cross_validate(other, settings, plan, folder, device=CPU, resume=True, notes=kept)


def test_what_other_ratings_were_scored_by_is_not_read(validated: Path, rated: AffectiveSet) -> None:
    whole = replace(rated, agreement=np.eye(len(LABELS))[rated.dominant], raters=None)
    kept_outputs(whole, validated)
    other = replace(whole, agreement=np.roll(whole.agreement, 1, axis=1))
    with pytest.raises(EvaluationError, match="other ratings of these pictures"):
        kept_outputs(other, validated)


def test_going_on_from_weights_that_were_made_anew_is_refused(
    tmp_path: Path, validated: Path, colour_folder: Path, start_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(validated, folder)
    (folder / "scores.json").unlink()
    record = json.loads((folder / "run.json").read_text("utf-8"))
    record["digests"] = dict.fromkeys(record["digests"], "0" * 64)
    (folder / "run.json").write_text(json.dumps(record), "utf-8")
    assert main([*words_for(colour_folder, start_file, folder), "--resume"]) == 1
    assert "begun with other settings: digests" in " ".join(capsys.readouterr().err.split())


def test_a_calibration_does_not_see_the_fold_that_it_is_scored_on(rated: AffectiveSet) -> None:
    rng = np.random.default_rng(0)
    logits = 4 * rated.agreement[None] + 0.5 * rng.standard_normal((1, len(rated), 3))
    fold = (np.arange(len(rated)) % 2)[None]
    found = OutOfFold(logits, np.ones((1, len(rated))), fold)
    before = cross_fitted(rated, found)[0]
    changed = rated.agreement.copy()
    changed[fold[0] == 0] = np.roll(changed[fold[0] == 0], 1, axis=1)
    after = cross_fitted(replace(rated, agreement=changed), found)[0]
    assert np.array_equal(before[fold[0] == 0], after[fold[0] == 0]), "its own ratings change nothing"
    assert not np.allclose(before[fold[0] == 1], after[fold[0] == 1]), "the other fold's do"


def test_repeats_divide_otherwise_and_keep_groups_together(rated: AffectiveSet) -> None:
    grouped = replace(rated, groups=np.arange(len(rated)) // 2)
    repeats = cross_validation(grouped, folds=5, repeats=2, seed=3)
    for folds in repeats:
        assert np.sort(np.concatenate([part.test for part in folds])).tolist() == list(range(len(rated)))
        for part in folds:
            sides = [set(grouped.groups[each]) for each in (part.train, part.validation, part.test)]
            assert sum(map(len, sides)) == len(set().union(*sides)), "no group on two sides"
    first, second = ([part.test.tolist() for part in folds] for folds in repeats)
    assert first != second


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, colour_folder: Path, start_file: Path) -> Path:
    """The folder of a run that was trained on every picture, with one setting of its own."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    words = words_for(colour_folder, start_file, folder)
    words[0], words[3:7] = "fit", ["--run", str(folder), "--all-pictures"]
    assert main([*words, "--dropout", "0.1"]) == 0
    return folder


def test_a_checkpoint_of_all_pictures_has_the_figures_of_the_cross_validation(
    tmp_path: Path, colour_folder: Path, validated: Path, whole: Path
) -> None:
    path = tmp_path / "whole.pt"
    words = ["export", "image_folder", str(colour_folder), "--run", str(whole), "--output", str(path)]
    assert main(words) == 1, "there is nothing to score it on"
    assert main([*words, "--crossval", str(validated)]) == 0
    card, found = load_checkpoint(path, torch.device("cpu")).card, load(validated)
    assert (card.temperature, card.scores, card.plots) == (found.temperature, found.scores, found.plots)
    assert card.abstain == found.abstain
    assert card.data[-1].pictures == len(LABELS) * EACH
    assert card.cross_validation is not None
    assert card.cross_validation.differs == ("dropout", "validation_share")  # the folds chose their epoch
    alike = found.model_copy(update={"validation_share": 0.0})
    record = json.loads((whole / "run.json").read_text("utf-8"))
    assert alike.for_card(record)["cross_validation"].differs == ("dropout",)  # type: ignore[attr-defined]
    text = path.with_suffix(".md").read_text("utf-8")
    assert "These are not measurements of this file, which was trained on all of these pictures." in text
    assert "other settings than the folds in: dropout, validation_share" in text
    assert [line.split()[3] for line in card.command.splitlines()] == ["fit", "crossval", "export"]


def test_a_fold_is_not_exported_as_if_it_had_learned_from_every_picture(
    tmp_path: Path, colour_folder: Path, validated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", "image_folder", str(colour_folder), "--run", str(validated / "repeat-1" / "fold-1")]
    assert main([*words, "--crossval", str(validated), "--output", str(tmp_path / "fold.pt")]) == 1
    assert "has not learned from these 30 pictures" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "fold.pt").exists()


def test_a_cross_validation_of_something_else_is_refused(
    validated: Path, whole: Path, rated: AffectiveSet
) -> None:
    found, record = load(validated), json.loads((whole / "run.json").read_text("utf-8"))
    read = replace(rated, agreement=np.eye(len(LABELS))[rated.dominant], raters=None)
    found.check(record, read)
    with pytest.raises(EvaluationError, match="the run is of blue, green"):
        found.check(record | {"labels": ["blue", "green"]}, read)
    other = found.split.model_copy(update={"fingerprint": "0" * 64})
    with pytest.raises(EvaluationError, match="of other pictures than the run"):
        CrossValidated(**dict(found) | {"split": other}).check(record, read)
    with pytest.raises(EvaluationError, match="of other ratings of these pictures than the run"):
        found.check(record, rated)
    CrossValidated(**dict(found) | {"ratings": None}).check(record, rated)  # an older one cannot tell


def test_start_weights_that_were_made_anew_since_are_on_the_card(validated: Path, whole: Path) -> None:
    found, record = load(validated), json.loads((whole / "run.json").read_text("utf-8"))
    anew = record | {"digests": dict.fromkeys(record["digests"], "0" * 64)}
    assert "weights" in found.for_card(anew)["cross_validation"].differs  # type: ignore[attr-defined]
    older = found.model_copy(update={"digests": {}})
    assert "weights" not in older.for_card(anew)["cross_validation"].differs  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--augment", "flip,hue"], "hue"),
        (["--frozen", "Mixed_9"], "Mixed_9"),
        (["--teacher-share", "0.5"], "--teacher-share needs a teacher"),
    ],
)
def test_what_is_refused_leaves_no_folder(
    words: list[str],
    why: str,
    tmp_path: Path,
    colour_folder: Path,
    start_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "folds"
    assert main([*words_for(colour_folder, start_file, folder), *words]) == 1
    assert why in " ".join(capsys.readouterr().err.split())
    assert not folder.exists()
