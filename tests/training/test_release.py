from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from app.checkpoint import Checkpoint, verified
from app.loading import load
from tests.training.colours import LABELS, SIDE
from tests.training.test_fit import contents
from training import pretrained
from training.__main__ import main
from training.abstain import thresholds
from training.calibrate import fit_temperature
from training.card import to_markdown
from training.division import check_split, describe_split
from training.evaluate import EvaluationError, fingerprints, logits_of, outputs_of, probabilities
from training.learned import NOTHING
from training.metrics import confusion, hits, reference_levels
from training.partition import Partition, split
from training.release import release, score
from training.run import Run, RunError

if TYPE_CHECKING:
    from pathlib import Path

    from training.affective_set import AffectiveSet

FIGURES = {
    "accuracy", "accuracy_when_clear", "balanced_accuracy", "macro_f1", "kl", "chebyshev", "clark",
    "canberra", "cosine", "intersection", "negative_log_likelihood", "brier", "calibration_error",
    "classwise_calibration_error",
}  # fmt: skip


@pytest.fixture(scope="module")
def partition(rated: AffectiveSet) -> Partition:
    return split(rated, seed=1)


def test_the_card_has_scores_of_the_shipped_file(
    colours: Checkpoint, rated: AffectiveSet, partition: Partition
) -> None:
    card = colours.card
    assert card.scores.keys() == FIGURES
    assert card.references.keys() == {"chance", "majority", "mean"}, "nobody knows the raters"
    logits = logits_of(colours, rated, partition.test)
    right = hits(probabilities(logits, card.temperature), rated.agreement[partition.test])
    assert card.scores["accuracy"].value == pytest.approx(right.mean())
    assert card.scores["kl"].value < card.references["mean"]["kl"]
    for figure in card.scores.values():
        assert figure.low <= figure.high
    again, references = score(colours, rated, partition)
    assert (again, references) == (card.scores, card.references)


def test_the_temperature_is_that_of_the_validation_pictures(
    colours: Checkpoint, rated: AffectiveSet, partition: Partition
) -> None:
    logits = logits_of(colours, rated, partition.validation)
    fitted_there = fit_temperature(logits, rated.agreement[partition.validation])
    assert colours.card.temperature == pytest.approx(fitted_there)


def test_the_card_says_when_not_to_rely_on_a_prediction(
    colours: Checkpoint, rated: AffectiveSet, partition: Partition
) -> None:
    at = colours.card.abstain
    assert at is not None
    held_out = outputs_of(colours, rated, partition.validation)
    assert held_out.novelty is not None
    calibrated = probabilities(held_out.logits, colours.card.temperature)
    assert at == thresholds(calibrated, held_out.novelty)
    text = to_markdown(colours.card, "")
    assert f"a novelty of {at.novelty:.3f}; each was set to flag 2.0% of held-out pictures" in text


def test_the_card_has_what_is_drawn_of_the_scores(
    colours: Checkpoint, rated: AffectiveSet, partition: Partition
) -> None:
    plots = colours.card.plots
    assert plots is not None
    predicted = probabilities(logits_of(colours, rated, partition.test), colours.card.temperature)
    truth = rated.agreement[partition.test]
    assert plots.confusion.labels == LABELS
    assert np.array_equal(plots.confusion.counts, confusion(predicted, truth))
    assert np.trace(plots.confusion.counts) / 6 == pytest.approx(colours.card.scores["accuracy"].value)
    assert sum(each.count for each in plots.reliability) == len(partition.test)


def test_valence_is_on_the_card_where_raters_gave_it(
    tmp_path: Path, fitted: Path, rated: AffectiveSet, partition: Partition, colours: Checkpoint
) -> None:
    assert colours.card.valence is None
    pleasant = replace(
        rated, valence=rated.agreement @ np.array([2.0, 5.0, 8.0]), valence_scale="1 bad to 9 good"
    )
    card = release(Run(fitted), pleasant, partition, tmp_path / "pleasant.pt", version="1", command="")
    assert card.valence == pytest.approx({"blue": 2, "green": 5, "red": 8})
    assert card.valence_scale == "1 bad to 9 good"
    text = (tmp_path / "pleasant.md").read_text("utf-8")
    assert "Valence that goes with each emotion: blue 2.00, green 5.00, red 8.00; 1 bad to 9 good" in text


def test_the_card_says_how_the_checkpoint_was_made(colours: Checkpoint, partition: Partition) -> None:
    card = colours.card
    assert (card.name, card.version, card.labels, card.input_size) == ("colours", "7", LABELS, SIDE)
    assert [(source.name, source.pictures, source.terms) for source in card.data] == [("colours", 21, "free")]
    assert (card.split.train, card.split.validation, card.split.test) == (21, 3, 6)
    assert card.split.test == len(partition.test)
    assert card.start_weights == "random, for tests"
    first, second = card.command.splitlines()
    assert first.startswith("python -m training fit image_folder ")
    assert second.startswith("python -m training export image_folder ")
    assert card.versions["torch"] == torch.__version__


def test_the_checkpoint_is_complete(released: Path, colours: Checkpoint) -> None:
    assert verified(released)[1] == colours.sha256
    names = sorted(file.name for file in released.parent.iterdir())
    assert names == ["SHA256SUMS", "colours.md", "colours.pt"]
    text = released.with_suffix(".md").read_text("utf-8")
    assert colours.sha256 in text
    assert f"**{colours.card.scores['kl'].value:.3f}**" in text


def test_rated_pictures_with_raters_also_show_the_raters_level(
    colours: Checkpoint, rated: AffectiveSet, partition: Partition
) -> None:
    _, references = score(colours, replace(rated, raters=np.full(len(rated), 15.0)), partition)
    assert references["raters"]["kl"] == pytest.approx(0, abs=1e-3), "where all agree, votes are no noise"


def test_the_raters_level_knows_the_votes_of_pictures_that_a_filter_left_out(
    colours: Checkpoint, rated: AffectiveSet
) -> None:
    others = np.roll(rated.agreement, 1, axis=1)
    mixed = rated.agreement + np.linspace(0, 1, len(rated))[:, None] * (others - rated.agreement) / 2
    whole = replace(rated, agreement=mixed, raters=np.full(len(rated), 15.0))
    kept = whole.keep_agreement(0.7)
    parts = split(kept, seed=1)
    _, references = score(colours, kept, parts)
    truth, seed = kept.agreement[parts.test], colours.card.split.seed
    raters = np.full(len(truth), 15.0)
    common = np.arange(0)
    known = reference_levels(truth, truth, raters, seed=seed, common=common, votes=15 * mixed)
    assert references["raters"] == known["raters"]
    assert references["raters"] != reference_levels(truth, truth, raters, seed=seed, common=common)["raters"]


def test_other_test_pictures_are_refused(
    colours: Checkpoint, rated: AffectiveSet, partition: Partition
) -> None:
    recorded = colours.card.split
    check_split(recorded, rated, partition)
    swapped = Partition(train=partition.test, validation=partition.validation, test=partition.train[:6])
    for parts in (swapped, split(rated, seed=2), split(rated, seed=1, test_share=0.25)):
        with pytest.raises(EvaluationError, match=r"not those that training kept apart \(6\)"):
            check_split(recorded, rated, parts)


def test_a_split_is_described_by_what_makes_it_again(rated: AffectiveSet, partition: Partition) -> None:
    described = describe_split(rated, partition, seed=1, min_agreement=0.5, top_classes=3)
    assert (described.seed, described.min_agreement, described.top_classes) == (1, 0.5, 3)
    check_split(described, rated, split(rated, seed=1))


def test_a_split_of_old_is_found_by_the_names_that_it_was_written_down_by(rated: AffectiveSet) -> None:
    beside = rated.subset(np.arange(10))
    divided = Partition(np.arange(6), np.arange(6, 8), np.arange(8, 10))
    described = describe_split(beside, divided, seed=1, min_agreement=None, top_classes=None)
    old = {
        "test_fingerprint": fingerprints(beside, divided.test)[1],
        "fingerprint": fingerprints(beside, np.arange(10))[1],
    }
    assert old["test_fingerprint"] != described.test_fingerprint
    check_split(described.model_copy(update=old), beside, divided)


def test_other_ratings_than_were_learned_are_refused(
    tmp_path: Path, fitted: Path, rated: AffectiveSet, partition: Partition
) -> None:
    levels = rated.agreement.copy()
    levels[partition.train[0]] = 1 / len(LABELS)
    more = replace(rated, agreement=levels)
    with pytest.raises(EvaluationError, match="not learned from these ratings"):
        release(Run(fitted), more, partition, tmp_path / "more.pt", version="1", command="")


def test_a_run_of_an_older_version_is_released(tmp_path: Path, fitted: Path, colour_folder: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(fitted, folder)
    record = json.loads((folder / "run.json").read_text("utf-8"))
    old = {key: value for key, value in record.items() if key not in {"ratings", "seen"}}
    (folder / "run.json").write_text(json.dumps(old), "utf-8")
    tensors, meta = contents(folder / "best.safetensors")
    del meta["learned_pictures"]
    save_file(tensors, folder / "best.safetensors", metadata=meta)
    made = tmp_path / "old.pt"
    words = ["export", "image_folder", str(colour_folder), "--run", str(folder), "--output", str(made)]
    assert main(words) == 0
    start = pretrained.load(made)
    assert start.pictures == NOTHING, "nobody can tell"
    assert start.learned_from


def test_a_release_that_is_refused_leaves_the_older_one(
    tmp_path: Path, fitted: Path, released: Path, rated: AffectiveSet, partition: Partition
) -> None:
    models = tmp_path / "models"
    shutil.copytree(released.parent, models)
    output = models / "colours.pt"
    before = {file.name: file.read_bytes() for file in models.iterdir()}
    more = replace(
        rated, labels=(*LABELS, "yellow"), agreement=np.hstack([rated.agreement, np.zeros((len(rated), 1))])
    )
    others = Partition(train=partition.test, validation=partition.validation, test=partition.train)
    for pictures, parts in (
        (replace(rated, labels=LABELS[::-1]), partition),
        (more, partition),
        (rated, others),
    ):
        with pytest.raises(EvaluationError):
            release(Run(fitted), pictures, parts, output, version="8", command="")
    with pytest.raises(RunError, match="holds no run"):
        release(Run(tmp_path), rated, partition, output, version="8", command="")
    assert {file.name: file.read_bytes() for file in models.iterdir()} == before
    assert load(output, torch.device("cpu")).card.version == "7"


def test_what_a_card_says_of_the_pictures_is_told_to_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", "image_folder", str(tmp_path), "--run", str(tmp_path), "--terms", "ours"]
    assert main([*words, "--output", str(tmp_path / "mine.pt")]) == 1
    assert "give --terms to `fit`" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "mine.pt").exists()


def cut_short(fitted: Path, folder: Path, epochs: int) -> Run:
    """The finished run of one epoch, as if more had been asked for."""
    run = Run(shutil.copytree(fitted, folder))
    record = run.record()
    record["settings"]["epochs"] = epochs
    (folder / "run.json").write_text(json.dumps(record), "utf-8")
    return run


def test_a_run_that_was_cut_short_says_so(
    tmp_path: Path, fitted: Path, rated: AffectiveSet, partition: Partition
) -> None:
    run = cut_short(fitted, tmp_path / "cut", epochs=8)
    card = release(run, rated, partition, tmp_path / "cut.pt", version="1", command="", note="Mine.")
    assert card.note == "This run was ended after 1 of its 8 epochs. Mine."
    with pytest.raises(EvaluationError, match=r"has done 1 of its 8 epochs.*go on with `fit --resume`"):
        release(
            run, rated, partition, tmp_path / "not.pt", version="1", command="", crossval=tmp_path / "nowhere"
        )
    assert not (tmp_path / "not.pt").exists()
