from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import timm
import torch

from app.card import DataSource
from tests.pictures import encoded, noise
from tests.training.colours import LABELS, SIDE, colour_set, draw_folder, parts, scenes, settle
from tests.training.test_fit import unplugged
from training.__main__ import main
from training.affective_set import DataError
from training.fit import FitError, fit
from training.fit_settings import FitSettings
from training.learned import describe, digests_of
from training.partition import Partition
from training.pseudo_rate import column_names
from training.run import Run
from training.teacher import Teacher, load
from training.tune import TuneSettings, _Learner, tune

if TYPE_CHECKING:
    from pathlib import Path

    from training.affective_set import AffectiveSet

CPU = torch.device("cpu")
QUICK = TuneSettings(
    epochs=6, rate=1e-3, side=64, batch=12, mixup=0.0, smoothing=0.0, augment=("flip",), memory=0.9
)
NAME = "tf_efficientnet_lite0"


@pytest.fixture
def teacher() -> Teacher:
    torch.manual_seed(4)
    network = timm.create_model(NAME, pretrained=False)
    settle(network, scenes(8).float() / 127.5 - 1)
    return Teacher(
        network,
        1280,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        architecture=NAME,
        provenance="a test",
        commands=["one"],
    )


@pytest.fixture
def both(colour_folder: Path, tmp_path: Path) -> list[AffectiveSet]:
    """The second calls the same colours by other names, and all its raters agree."""
    rated = colour_set(colour_folder)
    others = colour_set(draw_folder(tmp_path / "others"), agreement=1.0)
    turned = replace(others, name="others", agreement=np.roll(others.agreement, 1, axis=1))
    return [rated, turned]


def test_a_teacher_learns_what_the_raters_of_both_sets_say(
    teacher: Teacher, both: list[AffectiveSet], tmp_path: Path
) -> None:
    before = {key: value.clone() for key, value in teacher.network.state_dict().items()}
    divided = [parts(rated, train=6, validation=3) for rated in both]
    told: list[str] = []
    found = tune(teacher, both, divided, QUICK, device=CPU, tell=told.append)
    assert [loss.name for loss in found] == ["colours", "others"]
    assert all(loss.after < loss.before for loss in found)
    assert len(told) == QUICK.epochs
    changed = {
        key for key, value in teacher.network.state_dict().items() if not torch.equal(before[key], value)
    }
    assert any(key.startswith("blocks.6") for key in changed)
    assert "conv_head.weight" in changed
    still = ("conv_stem", "bn1", "blocks.0", "blocks.1")
    assert not any(key.startswith(still) or "running" in key for key in changed)
    assert not any(each.requires_grad for each in teacher.parameters())

    path = tmp_path / "tuned.safetensors"
    teacher.save(path)
    again = load(path)
    columns = [name for rated in both for name in column_names(rated.name, rated.labels)]
    assert again.labels == teacher.labels == tuple(columns)
    shown = [*zip(both, divided, strict=True)]
    assert again.data == teacher.data == tuple(describe(rated, part) for rated, part in shown)
    trained = [digests_of(rated, part.train) for rated, part in shown]
    assert again.pictures == teacher.pictures == trained[0] | trained[1]
    others = [parts(rated, train=7, validation=1) for rated in both]
    turned = [Partition(part.test, part.validation, part.train) for part in others]
    with pytest.raises(DataError, match="have been learned from before"):
        tune(again, both, turned, QUICK, device=CPU)
    assert (again.provenance, again.commands) == ("a test", ("one",))
    seen = again(torch.from_numpy(np.stack([np.full((3, 64, 64), grey, np.uint8) for grey in (0, 255)])))
    opinion = again.opinion(seen)
    assert torch.equal(opinion, teacher.opinion(seen))
    with torch.autocast("cpu", torch.bfloat16):  # as a trunk is taught
        assert torch.equal(opinion, teacher.opinion(seen))
    assert torch.allclose(opinion.reshape(2, 2, len(LABELS)).sum(dim=2), torch.full((2, 2), 0.5))


def test_the_same_seed_teaches_the_same(both: list[AffectiveSet]) -> None:
    made = []
    for number in range(2):
        torch.manual_seed(9)
        network = timm.create_model(NAME, pretrained=False)
        teacher = Teacher(network, 1280, mean=(0.5,) * 3, std=(0.5,) * 3, architecture=NAME)
        torch.manual_seed(number)  # what was drawn before is of no account
        settings = replace(QUICK, epochs=1, mixup=0.2, augment=("flip", "crop"))
        tune(teacher, both[:1], [parts(both[0], train=4, validation=2)], settings, device=CPU)
        made.append(teacher.state_dict())
        assert teacher.labels == LABELS, "one set needs no name before its emotions"
    assert all(torch.equal(made[0][key], made[1][key]) for key in made[0])


def test_a_step_learns_before_the_next_one_is_read(teacher: Teacher, both: list[AffectiveSet]) -> None:
    rated, divided = both[0], parts(both[0], train=6, validation=3)
    before = teacher.network.state_dict()["conv_head.weight"].clone()
    cut = unplugged(rated, divided, times=18 + 6 + 6 + 1)  # in the third of three steps; the first rate is 0
    with pytest.raises(KeyboardInterrupt):
        tune(teacher, [cut], [divided], replace(QUICK, batch=6), device=CPU)
    assert not torch.equal(teacher.network.state_dict()["conv_head.weight"], before)


def test_weights_decay_as_they_are_told_to(teacher: Teacher) -> None:
    settings = replace(QUICK, weight_decay=0.3)
    learner = _Learner(teacher, [3, 4], settings)
    decay = {
        id(each): group["weight_decay"] for group in learner.groups(settings) for each in group["params"]
    }
    learning = {name: each for name, each in learner.named_parameters() if each.requires_grad}
    assert len(decay) == len(learning)
    assert {name: decay[id(each)] for name, each in learning.items()} == {
        name: 0.3 if each.ndim > 1 else 0.0 for name, each in learning.items()
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", -1), ("rate", -1.0), ("layer_decay", 2.0), ("frozen", -1), ("side", 16), ("batch", 0),
        ("weight_decay", -1.0), ("dropout", 1.0), ("mixup", -0.1), ("smoothing", 1.1), ("memory", 1.1),
        ("seed", -1),
    ],
)  # fmt: skip
def test_numbers_that_mean_nothing_are_refused(name: str, value: float) -> None:
    with pytest.raises(FitError, match=rf"--{name.replace('_', '-')} \S+ is out of range"):
        TuneSettings(**{name: value})  # type: ignore[arg-type]


def test_a_loss_that_is_no_number_is_told(teacher: Teacher, both: list[AffectiveSet]) -> None:
    settings = replace(QUICK, rate=1e30)
    with pytest.raises(FitError, match="is no number: lower the rate"):
        tune(teacher, both[:1], [parts(both[0], train=6, validation=2)], settings, device=CPU)


def test_a_trunk_is_taught_by_the_opinion_of_every_augmented_picture(
    teacher: Teacher, both: list[AffectiveSet], start_file: Path, tmp_path: Path
) -> None:
    rated, divided = both[0], parts(both[0], train=4, validation=1)
    untaught, tuned = tmp_path / "untaught.safetensors", tmp_path / "tuned.safetensors"
    teacher.save(untaught)
    shown = DataSource(name="shown to the teacher", pictures=7, terms="to ask for", citation="")
    teacher.learned([(rated.name, rated.labels)], [torch.nn.Linear(1280, 3)], [shown])
    teacher.save(tuned)
    plain = FitSettings(weights=str(start_file), side=SIDE, batch=6, epochs=1, rate=5e-6, teacher=str(tuned))
    losses = {}
    for share in (0.0, 1.0):
        run = Run(tmp_path / f"share-{share:g}")
        fit(rated, divided, replace(plain, teacher_share=share), run, device=CPU)
        losses[share] = [row["train_loss"] for row in run.epochs()]
        assert run.record()["data"][0] == shown.model_dump(), "its terms bind what it has taught, too"
    assert losses[0.0][0] == losses[1.0][0], "the last layer alone learns from labels"
    assert losses[0.0][1] != losses[1.0][1]
    for wrong, words in (
        (replace(plain, teacher_share=0.5, teacher=str(untaught)), "knows no emotions"),
        (replace(plain, teacher_share=0.5, teacher=""), "knows no emotions"),
    ):
        with pytest.raises(FitError, match=words):
            fit(rated, divided, wrong, Run(tmp_path / "none"), device=CPU)
    other = replace(rated, labels=("a", "b", "c"))
    with pytest.raises(FitError, match="this one knows blue, green, red"):
        fit(other, divided, replace(plain, teacher_share=0.5), Run(tmp_path / "none"), device=CPU)
    assert not (tmp_path / "none").exists()


def test_the_command_line(
    teacher: Teacher, colour_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, out = tmp_path / "given.safetensors", tmp_path / "new" / "tuned.safetensors"
    teacher.save(given)
    words = ["tune", "image_folder", str(colour_folder), "--name", "others", "--teacher", str(given)]
    words += [
        "--rated",
        "image_folder",
        str(draw_folder(tmp_path / "rated")),
        "--epochs",
        "1",
        "--side",
        "64",
    ]
    words += ["--augment", "flip", "--device", "cpu", "--output", str(out)]
    assert main([*words, "--validation-share", "0"]) == 1
    assert "the penalty of a last layer is chosen on validation pictures" in capsys.readouterr().err
    assert main([*words, "--validation-share", "0.25"]) == 0
    said = capsys.readouterr().out
    assert said.count("nats before") == 2
    made = load(out)
    assert [name for name, _ in made.sets] == ["rated", "others"]
    assert made.provenance.endswith("fine-tuned on rated and others")
    assert made.commands[-1].startswith("python -m training tune image_folder")
    assert [source.pictures for source in made.data] == [18, 18]  # of 24 that are not for the test
    assert main([*words, "--validation-share", "0.25", "--with-test"]) == 0
    assert [source.pictures for source in load(out).data] == [24, 24]  # of 30, less 6 that choose
    table = tmp_path / "pseudo.csv"
    words = ["pseudo-rate", "image_folder", str(colour_folder), "--rated", "image_folder"]
    words += [str(tmp_path / "rated"), "--teacher", str(out), "--seed", "2", "--output", str(table)]
    assert main([*words, "--device", "cpu"]) == 1
    assert "have been learned from before" in " ".join(capsys.readouterr().err.split())
    assert not table.exists()
    (tmp_path / "unrated").mkdir()
    for number in range(3):
        (tmp_path / "unrated" / f"{number}.png").write_bytes(encoded(noise((64, 64), seed=number)))
    words[2] = str(tmp_path / "unrated")
    assert main([*words, "--device", "cpu", "--seen-test"]) == 0
    assert capsys.readouterr().out.count("a teacher has learned from ") == 2
