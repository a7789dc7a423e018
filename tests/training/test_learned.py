from __future__ import annotations

import logging
import shutil
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from tests.training.colours import SIDE, colour_set, parts
from training import pretrained
from training.__main__ import main
from training.affective_set import DataError
from training.learned import (
    LEARNED,
    NOTHING,
    check_unseen,
    digest,
    digests_of,
    from_text,
    note_of,
    tell_known,
    to_text,
)
from training.partition import split
from training.run import Run

if TYPE_CHECKING:
    from pathlib import Path

    from training.affective_set import AffectiveSet


@pytest.fixture(scope="module")
def rated(colour_folder: Path) -> AffectiveSet:
    return colour_set(colour_folder)


def test_a_picture_is_known_by_its_content(rated: AffectiveSet, tmp_path: Path) -> None:
    copied = tmp_path / "by another name.png"
    shutil.copy(rated.pictures[3], copied)
    assert digest(copied) == digest(rated.pictures[3])
    everything = digests_of(rated, range(len(rated)))
    assert len(everything) == len(rated), "no two are alike"
    assert from_text(to_text(everything)) == everything
    assert to_text(NOTHING) == ""
    assert from_text("") == NOTHING


def test_pictures_of_the_test_that_were_learned_are_refused_and_others_told(
    rated: AffectiveSet, caplog: pytest.LogCaptureFixture
) -> None:
    partition = parts(rated, train=6, validation=2)
    trained = digests_of(rated, partition.train)
    none = {"validation": 0, "test": 0}
    assert check_unseen(rated, partition, NOTHING, allowed=False) == none
    assert check_unseen(rated, partition, trained, allowed=False) == none
    assert note_of(none) == ""
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        watched = trained | digests_of(rated, partition.validation[:4])
        assert check_unseen(rated, partition, watched, allowed=False) == {"validation": 4, "test": 0}
    assert "4 of the validation pictures" in caplog.text
    tested = digests_of(rated, partition.test[:2])
    with pytest.raises(DataError, match=r"2 of the 6 pictures of colours .* --seen-test") as refused:
        check_unseen(rated, partition, tested, allowed=False)
    assert refused.value.problems == tuple(str(rated.pictures[index]) for index in partition.test[:2])
    seen = check_unseen(rated, partition, tested, allowed=True)
    assert seen == {"validation": 0, "test": 2}
    assert note_of(seen).startswith("2 of the pictures that are scored had been learned from before")


def test_runs_and_checkpoints_tell_what_they_have_learned_from(
    rated: AffectiveSet, fitted: Path, released: Path
) -> None:
    trained = digests_of(rated, split(rated, seed=1).train)
    assert pretrained.load(fitted / "best.safetensors").pictures == trained
    assert pretrained.load(released).pictures == trained


def test_what_was_learned_is_not_scored_as_if_it_were_new(
    colour_folder: Path, fitted: Path, released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, best = tmp_path / "run", fitted / "best.safetensors"
    common = [str(colour_folder), "--side", str(SIDE), "--epochs", "0", "--device", "cpu", "--weights"]
    again = ["fit", "image_folder", *common, str(best), "--run", str(run), "--seed", "2"]
    for words in (
        again,
        ["crossval", "image_folder", *common, str(released), "--folds", "2", "--out", str(run)],
        ["study", "image_folder", *common, str(best), "--out", str(run)],
    ):
        assert main(words) == 1
        assert "have been learned from before" in " ".join(capsys.readouterr().err.split())
        assert not run.exists()
    assert main([*again, "--seen-test"]) == 0
    seen = Run(run).record()["seen"]
    assert 0 < seen["test"] <= 6
    first, second = split(colour_set(colour_folder), seed=1), split(colour_set(colour_folder), seed=2)
    assert seen["test"] == len(np.intersect1d(first.train, second.test))
    made = tmp_path / "models" / "again.pt"
    words = ["export", "image_folder", str(colour_folder), "--run", str(run), "--output", str(made)]
    assert main([*words, "--note", "And more."]) == 0
    told = made.with_suffix(".md").read_text("utf-8")
    assert f"{seen['test']} of the pictures that are scored had been learned from before" in told
    assert "And more." in told
    everything = digests_of(colour_set(colour_folder), np.union1d(first.train, second.train))
    assert pretrained.load(made).pictures == everything, "what it started from has learned some of them"


def test_weights_that_do_not_say_what_they_know_are_told_of(
    colour_folder: Path, fitted: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As runs of before this was written down left them."""
    old = tmp_path / "old.safetensors"
    with safe_open(str(fitted / "best.safetensors"), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
        meta = {key: value for key, value in file.metadata().items() if key != LEARNED}
    save_file(tensors, str(old), meta)
    words = [
        str(colour_folder),
        "--side",
        str(SIDE),
        "--epochs",
        "0",
        "--device",
        "cpu",
        "--weights",
        str(old),
    ]
    for verb in (["fit", "image_folder", *words, "--run"], ["crossval", "image_folder", *words, "--out"]):
        caplog.clear()
        assert main([*verb, str(tmp_path / verb[0])]) == 0
        assert "do not say from which pictures" in caplog.text


def test_pictures_that_are_said_to_be_new_are_looked_for_in_the_checkpoint(
    rated: AffectiveSet, released: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    partition = split(rated, seed=1)
    tell_known(rated.subset(partition.test), released)
    assert not caplog.records
    tell_known(rated, released)
    (record,) = caplog.records
    assert f"{len(partition.train)} of the 30 pictures that are scored are among those that" in record.message
    assert f"{released} has learned from" in record.message
    assert "teacher" not in record.message
    caplog.clear()
    old = tmp_path / "old.pt"
    with zipfile.ZipFile(released) as archive, zipfile.ZipFile(old, "w") as without:
        for name in archive.namelist():
            if not name.endswith(f"/extra/{LEARNED}"):
                without.writestr(name, archive.read(name))
    tell_known(rated, old)
    assert "does not say from which pictures it has learned" in caplog.text


def test_a_last_layer_that_knows_the_answers_is_not_built_on(
    colour_folder: Path, fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "fit",
        "image_folder",
        str(colour_folder),
        "--side",
        str(SIDE),
        "--epochs",
        "0",
        "--device",
        "cpu",
    ]
    words += ["--weights", str(fitted / "best.safetensors")]
    assert main([*words, "--run", str(tmp_path / "some")]) == 0
    assert "knows these pictures" not in " ".join(capsys.readouterr().err.split())
    assert main([*words, "--run", str(tmp_path / "all"), "--all-pictures"]) == 0
    assert "knows these pictures" in " ".join(capsys.readouterr().err.split())
