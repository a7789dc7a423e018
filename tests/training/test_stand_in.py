from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from app.cli.card import how_scored
from app.loading import load
from tests.training.colours import EACH, LABELS, SIDE
from training import stand_in
from training.__main__ import main
from training.card import to_markdown
from training.division import check_split
from training.evaluate import EvaluationError, logits_of, probabilities
from training.learned import NOTHING, digests_of, in_checkpoint
from training.metrics import kl_divergence
from training.partition import split
from training.release import release
from training.run import Run

if TYPE_CHECKING:
    from pathlib import Path

    from app.checkpoint import Checkpoint
    from training.affective_set import AffectiveSet

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, colour_folder: Path, start_file: Path) -> Path:
    """The folder of a run that has learned from the pictures for the test, too."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    words = ["fit", "image_folder", str(colour_folder), "--run", str(folder), "--weights", str(start_file)]
    assert main([*words, "--side", str(SIDE), "--epochs", "0", "--device", "cpu", "--with-test"]) == 0
    return folder


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, colour_folder: Path, run: Path, released: Path) -> Path:
    """The checkpoint of that run."""
    path = tmp_path_factory.mktemp("models") / "whole.pt"
    words = ["export", "image_folder", str(colour_folder), "--run", str(run), "--output", str(path)]
    assert main([*words, "--stand-in", str(released)]) == 0
    return path


@pytest.fixture(scope="module")
def whole(path: Path) -> Checkpoint:
    return load(path, CPU)


def test_it_has_learned_from_all_pictures_but_those_that_choose(
    path: Path, whole: Checkpoint, rated: AffectiveSet
) -> None:
    parts = split(rated, seed=1)
    learned = in_checkpoint(path)
    assert learned == digests_of(rated, [*parts.train, *parts.test])
    assert not learned & digests_of(rated, parts.validation)
    assert whole.card.data[-1].pictures == len(LABELS) * EACH - len(parts.validation)
    assert (whole.card.split.test, whole.card.split.with_test) == (0, True)


def test_its_scores_are_those_of_the_other(whole: Checkpoint, colours: Checkpoint) -> None:
    card = whole.card
    assert (card.scores, card.references, card.plots) == (
        colours.card.scores, colours.card.references, colours.card.plots,
    )  # fmt: skip
    assert card.stand_in is not None
    assert (card.stand_in.release, card.stand_in.sha256) == ("colours@7", colours.sha256)
    assert (card.stand_in.train, card.stand_in.test) == (21, 6)
    assert card.temperature != colours.card.temperature
    assert card.abstain != colours.card.abstain


def test_how_far_it_is_from_the_other_is_measured_where_neither_has_learned(
    whole: Checkpoint, colours: Checkpoint, rated: AffectiveSet
) -> None:
    held_out = split(rated, seed=1).validation
    after, before = (
        kl_divergence(
            probabilities(logits_of(each, rated, held_out), each.card.temperature), rated.agreement[held_out]
        ).mean()
        for each in (whole, colours)
    )
    assert whole.card.stand_in is not None
    change = whole.card.stand_in.changes["kl"]
    assert change.value == pytest.approx(after - before)
    assert change.low <= change.value <= change.high
    text = to_markdown(whole.card, "")
    assert "These are not measurements of this file" in text
    assert "from 27 of this set, where colours@7" in text
    assert f"kl {change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f})" in text
    assert "| figure | colours@7 |" in text
    told = how_scored(whole.card)
    assert told.startswith("not this network, which learned from the pictures for test, too, 27 of this set")
    assert f"differs from that one's by {change.value:+.3f}" in told


def test_without_another_there_are_no_scores(
    tmp_path: Path,
    colour_folder: Path,
    run: Path,
    fitted: Path,
    path: Path,
    released: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = tmp_path / "made.pt"
    words = ["export", "image_folder", str(colour_folder), "--output", str(made), "--run"]
    for wrong, message in (
        ([str(run)], "name a checkpoint that has not, --stand-in"),
        ([str(fitted), "--stand-in", str(released)], "this run has test pictures of its own"),
        ([str(run), "--stand-in", str(path)], "was not scored on the pictures that were for the test here"),
        ([str(run), "--stand-in", str(tmp_path / "none.pt")], "none.pt"),
        ([str(run), "--stand-in", str(made)], "would replace the checkpoint whose scores it shows"),
    ):
        assert main([*words, *wrong]) == 1
        assert message in " ".join(capsys.readouterr().err.split())
        assert not made.exists()
    assert main(["evaluate", "image_folder", str(colour_folder), str(path)]) == 1
    assert "are those of colours@7 (sha256" in " ".join(capsys.readouterr().err.split())
    assert main(["report", "image_folder", str(colour_folder), str(path), "--run", str(run)]) == 1
    assert "are those of colours@7 (sha256" in " ".join(capsys.readouterr().err.split())


def test_scores_that_are_not_its_own_are_refused(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    released: Path,
    whole: Checkpoint,
    colours: Checkpoint,
    rated: AffectiveSet,
) -> None:
    own, parts = whole.card.split, split(rated, seed=1)
    stand_in.standing_in(released, own, rated)
    with monkeypatch.context() as patched:
        patched.setattr(stand_in, "in_checkpoint", lambda _: digests_of(rated, parts.test[:2]))
        with pytest.raises(EvaluationError, match="has itself learned from 2 of the pictures for the test"):
            stand_in.standing_in(released, own, rated)
        patched.setattr(stand_in, "in_checkpoint", lambda _: digests_of(rated, parts.validation[:1]))
        with pytest.raises(EvaluationError, match="has itself learned from 1 of"):
            stand_in.standing_in(released, own, rated)
        patched.setattr(stand_in, "in_checkpoint", lambda _: NOTHING)
        stand_in.standing_in(released, own, rated)
        assert "its card's word is taken" in caplog.text
    loaded: list[Checkpoint] = []
    monkeypatch.setattr(stand_in, "load", lambda *_: loaded[-1])
    of_another = colours.card.model_copy(update={"stand_in": whole.card.stand_in})
    loaded.append(replace(colours, card=of_another))
    with pytest.raises(EvaluationError, match="are not its own"):
        stand_in.standing_in(released, own, rated)
    nothing = {"validation_share": 0.0}
    of_all = colours.card.model_copy(update={"split": colours.card.split.model_copy(update=nothing)})
    loaded.append(replace(colours, card=of_all))
    with pytest.raises(EvaluationError, match="of which training kept none"):
        stand_in.standing_in(released, own.model_copy(update=nothing), rated)


def test_integers_are_tried_on_the_pictures_that_choose(
    path: Path, colour_folder: Path, rated: AffectiveSet
) -> None:
    assert main(["quantise", "image_folder", str(colour_folder), str(path), "--pictures", "8"]) == 0
    quantised = load(path, CPU, precision="int8").quantised
    assert quantised is not None
    assert quantised.pictures == len(split(rated, seed=1).validation)
    assert np.isfinite(quantised.changes["kl"].value)


def test_other_validation_pictures_are_refused(whole: Checkpoint, rated: AffectiveSet) -> None:
    own = whole.card.split
    check_split(own, rated, split(rated, seed=1).with_test())
    with pytest.raises(EvaluationError, match="some that were learned would be taken for new"):
        check_split(own, rated, split(rated, seed=2).with_test())


def test_what_the_card_of_the_other_says_of_its_scores_is_told(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    run: Path,
    released: Path,
    colours: Checkpoint,
    rated: AffectiveSet,
) -> None:
    noted = colours.card.model_copy(update={"note": "One is also elsewhere."})
    monkeypatch.setattr(stand_in, "load", lambda *_: replace(colours, card=noted))
    parts = split(rated, seed=1).with_test()
    card = release(
        Run(run), rated, parts, tmp_path / "m.pt", version="1", command="", note="More.", stand_in=released
    )
    assert card.note == "Of colours@7, whose scores these are: One is also elsewhere. Of m@1 itself: More."


def test_a_run_that_knows_what_the_two_are_compared_on_is_refused(
    tmp_path: Path, run: Path, released: Path, rated: AffectiveSet
) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    record = json.loads((folder / "run.json").read_text("utf-8"))
    (folder / "run.json").write_text(json.dumps(record | {"seen": {"validation": 1, "test": 0}}), "utf-8")
    with pytest.raises(EvaluationError, match="have learned from validation pictures"):
        release(
            Run(folder),
            rated,
            split(rated, seed=1).with_test(),
            tmp_path / "m.pt",
            version="1",
            command="",
            stand_in=released,
        )


def test_nothing_to_choose_by_is_another_option(
    tmp_path: Path, colour_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", "image_folder", str(colour_folder), "--run", str(tmp_path / "none"), "--with-test"]
    assert main([*words, "--validation-share", "0"]) == 1
    assert "that is --all-pictures" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "none").exists()


def test_a_run_from_before_there_was_such_a_thing_goes_on(
    tmp_path: Path, colour_folder: Path, fitted: Path, start_file: Path
) -> None:
    folder = shutil.copytree(fitted, tmp_path / "run")
    record = json.loads((folder / "run.json").read_text("utf-8"))
    for later in ("with_test", "validation_fingerprint"):
        del record["split"][later]
    (folder / "run.json").write_text(json.dumps(record), "utf-8")
    words = ["fit", "image_folder", str(colour_folder), "--run", str(folder), "--weights", str(start_file)]
    words += ["--side", str(SIDE), "--epochs", "1", "--batch", "8", "--device", "cpu", "--terms", "free"]
    assert main([*words, "--resume"]) == 0
    assert main([*words, "--resume", "--with-test"]) == 1
