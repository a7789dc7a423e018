from __future__ import annotations

import copy
import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest
import torch
from safetensors import safe_open

from tests.training.colours import SIDE, colour_set, parts
from training import phases, pretrained
from training.augment import AugmentationError
from training.fit import FitError, FitSettings, _what_is_learned, fit, with_target
from training.head import PENALTIES, extract, fit_head
from training.inception import BLOCKS, InceptionError, build
from training.learned import describe
from training.partition import Partition
from training.phases import _apart, schedule
from training.pictures import RatedPictures, batches
from training.pseudo_rate import column_names
from training.run import Run, RunError, restore

if TYPE_CHECKING:
    from torch import Tensor

    from training.affective_set import AffectiveSet
    from training.inception import EmotionInception
    from training.pretrained import StartWeights

CPU = torch.device("cpu")


class Unplugged(type(Path())):  # type: ignore[misc]  # the class for this system's paths
    """Pictures that somebody interrupts training at, when they have been read so many times in all."""

    times: ClassVar[int]

    def read_bytes(self) -> bytes:
        Unplugged.times -= 1
        if Unplugged.times < 0:
            raise KeyboardInterrupt
        return bytes(super().read_bytes())


def unplugged(rated: AffectiveSet, partition: Partition, *, times: int) -> AffectiveSet:
    """The same set, until its training pictures have been read so many times."""
    training = set(partition.train.tolist())
    paths = [Unplugged(path) if index in training else path for index, path in enumerate(rated.pictures)]
    Unplugged.times = times
    return replace(rated, pictures=tuple(paths))


@pytest.fixture(scope="module")
def rated(colour_folder: Path) -> AffectiveSet:
    return colour_set(colour_folder)


@pytest.fixture(scope="module")
def partition(rated: AffectiveSet) -> Partition:
    return parts(rated, train=6, validation=2)


@pytest.fixture(scope="module")
def settings(start_file: Path) -> FitSettings:
    """Phase one sees so little that phase two, though careful with random weights, can do better."""
    return FitSettings(
        weights=str(start_file),
        side=SIDE,
        head_pictures=6,
        batch=6,
        epochs=2,
        rate=5e-6,
        dropout=0.05,
        augment=("flip", "crop"),
    )


@pytest.fixture(scope="module")
def straight(
    tmp_path_factory: pytest.TempPathFactory,
    rated: AffectiveSet,
    partition: Partition,
    settings: FitSettings,
) -> Run:
    """A run of two epochs that nothing interrupts."""
    run = Run(tmp_path_factory.mktemp("runs") / "straight")
    fit(rated, partition, settings, run, device=CPU)
    return run


def contents(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


def log_of(run: Run) -> list[dict[str, str]]:
    with (run.folder / "log.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def test_a_run_that_was_cut_ends_as_one_that_was_not(
    tmp_path: Path, rated: AffectiveSet, partition: Partition, settings: FitSettings, straight: Run
) -> None:
    run = Run(tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        fit(unplugged(rated, partition, times=6 + 18 + 9), partition, settings, run, device=CPU)
    assert [row["epoch"] for row in log_of(run)] == ["0", "1"], "cut in the middle of epoch 2"
    fit(rated, partition, settings, run, device=CPU, resume=True)
    for name in ("best", "last"):
        (tensors, meta), (expected, expected_meta) = (contents(getattr(one, name)) for one in (run, straight))
        assert meta == expected_meta
        assert tensors.keys() == expected.keys()
        unlike = [key for key in expected if not torch.equal(tensors[key], expected[key])]
        assert unlike == [], name
    assert log_of(run) == log_of(straight)
    assert run.record() == straight.record()


def test_a_run_that_was_cut_in_phase_one_begins_it_again(
    tmp_path: Path, rated: AffectiveSet, partition: Partition, settings: FitSettings, straight: Run
) -> None:
    run, head_alone = Run(tmp_path / "cut"), replace(settings, epochs=0)
    with pytest.raises(KeyboardInterrupt):
        fit(unplugged(rated, partition, times=3), partition, head_alone, run, device=CPU)
    assert not run.last.exists()
    fit(rated, partition, head_alone, run, device=CPU, resume=True)
    assert log_of(run) == log_of(straight)[:1]


def test_a_run_that_is_finished_is_left_alone(
    rated: AffectiveSet, partition: Partition, settings: FitSettings, straight: Run
) -> None:
    before, log = straight.last.read_bytes(), log_of(straight)
    fit(rated, partition, settings, straight, device=CPU, resume=True)
    assert straight.last.stat().st_size == len(before)
    assert contents(straight.last)[1]["epoch"] == "2"
    assert log_of(straight) == log
    with pytest.raises(RunError, match="holds a run already"):
        fit(rated, partition, settings, straight, device=CPU)
    with pytest.raises(RunError, match="other settings: settings"):
        fit(rated, partition, replace(settings, rate=1e-4), straight, device=CPU, resume=True)


def test_both_phases_learn(straight: Run) -> None:
    log = log_of(straight)
    assert [(row["phase"], row["epoch"]) for row in log] == [("head", "0"), ("all", "1"), ("all", "2")]
    losses = [float(row["validation_loss"]) for row in log]
    assert math.log(3) > losses[0] > min(losses[1:])
    (best, meta), (last, _) = contents(straight.best), contents(straight.last)
    assert float(meta["best"]) == pytest.approx(min(losses), abs=1e-5)
    assert int(meta["epoch"]) == losses.index(min(losses))
    assert any(key.startswith("optimiser.") for key in last)
    assert not any(key.startswith("optimiser.") for key in best)


def test_the_network_of_the_best_epoch_is_returned(
    tmp_path: Path, rated: AffectiveSet, partition: Partition, settings: FitSettings, start: StartWeights
) -> None:
    ruinous = replace(settings, epochs=1, rate=0.1)  # so the head of phase one stays the best
    run = Run(tmp_path / "ruined")
    network = fit(rated, partition, ruinous, run, device=CPU)
    assert not network.training
    assert contents(run.best)[1]["epoch"] == "0"
    assert contents(run.last)[1]["epoch"] == "1"
    assert torch.equal(network.blocks.state_dict()["Conv2d_1a_3x3.conv.weight"],
                       start.state["Conv2d_1a_3x3.conv.weight"])  # fmt: skip
    assert_same(network, run.best)


def test_a_loss_that_is_no_number_ends_the_run(
    tmp_path: Path, rated: AffectiveSet, partition: Partition, settings: FitSettings
) -> None:
    run = Run(tmp_path / "diverged")
    with pytest.raises(FitError, match="after epoch 1 of 3 the loss is no number"):
        fit(rated, partition, replace(settings, epochs=3, rate=1e12), run, device=CPU)
    assert [contents(path)[1]["epoch"] for path in (run.best, run.last)] == ["0", "0"]


def assert_same(network: EmotionInception, path: Path) -> None:
    tensors, _ = contents(path)
    assert all(torch.equal(value, tensors[key]) for key, value in network.state_dict().items())


def test_a_run_can_be_the_start_of_another(
    rated: AffectiveSet, partition: Partition, settings: FitSettings, straight: Run
) -> None:
    start = pretrained.load(straight.best)
    assert (start.mean, start.std, start.count_border) == (0.5, 0.5, True)
    assert start.provenance == "random, for tests"
    assert [(source.name, source.pictures) for source in start.learned_from] == [("colours", 18)]
    tuned = build(3, start)
    trained = build(3, pretrained.load(settings.weights))
    restore(straight.best, trained, None)
    for key, value in trained.blocks.state_dict().items():
        assert torch.equal(tuned.blocks.state_dict()[key], value)
    assert describe(rated, partition).terms == "not stated"


def test_a_run_builds_on_the_last_layer_of_one_that_knew_its_emotions(
    rated: AffectiveSet,
    partition: Partition,
    settings: FitSettings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    taught = Run(tmp_path / "taught")
    both = replace(rated, labels=tuple(column_names(rated.name, rated.labels)))  # as in a table of two sets
    fit(both, partition, replace(settings, epochs=0), taught, device=CPU)
    few = parts(rated, train=3, validation=6)
    losses, again = [], replace(settings, epochs=0, weights=str(taught.best))
    for name, labels, told in (
        (rated.name, rated.labels, "builds on what that of the start weights knows"),
        ("the same by another name", rated.labels, "builds on what that of the start weights knows"),
        (
            "others",
            ("a", "b", "c"),
            "starts anew: that of the start weights knows colours blue, colours green",
        ),
    ):
        run = Run(tmp_path / name)
        fit(replace(rated, name=name, labels=labels), few, again, run, device=CPU)
        losses.append(float(log_of(run)[0]["validation_loss"]))
        assert f"the last layer {told}" in " ".join(capsys.readouterr().err.split())
    assert losses[0] == losses[1] < losses[2] - 0.01


@pytest.fixture(scope="module")
def two(rated: AffectiveSet) -> AffectiveSet:
    """Two of the colours, on each of which all agreed."""
    return with_target(rated.subset(np.arange(20)).top_classes(2), "class")


def test_labels_that_do_not_belong_to_the_pictures_stop_training(
    tmp_path: Path, two: AffectiveSet, settings: FitSettings
) -> None:
    partition = parts(two, train=6, validation=2)
    wrong = two.agreement.copy()
    wrong[partition.validation] = wrong[partition.validation][:, ::-1]  # the opposite of what is learned
    run = Run(tmp_path / "wrong")
    with pytest.raises(FitError, match=r"chance is 0\.693: it learned nothing"):
        fit(replace(two, agreement=wrong), partition, settings, run, device=CPU)
    assert not run.best.exists()


def test_a_last_layer_that_learned_a_skewed_mix_learned_nothing() -> None:
    mostly = torch.eye(3)[[0] * 80 + [1] * 10 + [2] * 10]
    blind = -(0.8 * math.log(0.8) + 0.2 * math.log(0.1))  # far below chance
    phases.check_last_layer(blind - 0.01, mostly, mostly, strict=True)
    phases.check_last_layer(blind + 0.01, mostly, mostly, strict=False)  # one fold of many may be unlucky
    for loss in (blind + 0.01, math.nan):
        with pytest.raises(FitError, match=r"mean of the training pictures reaches 0\.639"):
            phases.check_last_layer(loss, mostly, mostly, strict=True)
    few = mostly[::10]  # some of which may be unlike the others by luck
    phases.check_last_layer(blind + 0.01, mostly, few, strict=True)
    for loss in (math.log(3), math.nan):
        with pytest.raises(FitError, match=r"chance is 1\.099: it learned nothing"):
            phases.check_last_layer(loss, mostly, few, strict=True)
    absent = torch.eye(3)[[0, 1]], torch.eye(3)[[2] * 60]
    phases.check_last_layer(1.0, *absent, strict=True)  # an emotion that was not there


def test_the_class_target_learns_the_dominant_emotion_only(
    tmp_path: Path, rated: AffectiveSet, partition: Partition, settings: FitSettings, straight: Run
) -> None:
    target = with_target(rated, "class")
    assert target.agreement.tolist() == np.eye(3)[rated.dominant].tolist()
    assert target.pictures == rated.pictures
    assert with_target(rated, "distribution") is rated
    run = Run(tmp_path / "class")
    network = fit(rated, partition, replace(settings, target="class", epochs=0), run, device=CPU)
    assert_same(network, run.best)
    assert run.record()["settings"]["target"] == "class"
    # Full agreement has no entropy, so the loss can fall below that of the votes, which are 0.8 and 0.2.
    assert float(log_of(run)[0]["train_loss"]) < 0.5 < float(log_of(straight)[0]["train_loss"])


def test_without_validation_pictures_the_last_layer_learns_from_every_picture(
    rated: AffectiveSet, settings: FitSettings, tmp_path: Path
) -> None:
    everything = np.arange(len(rated))
    partition = Partition(train=everything, validation=everything[:0], test=everything[:0])
    chosen = replace(settings, epochs=0, head_pictures=0)
    network = fit(rated, partition, chosen, Run(tmp_path / "run"), device=CPU)
    shown = RatedPictures(rated, everything, side=SIDE)
    features = extract(network, batches(shown, batch=6), CPU)
    found = []
    for penalty in PENALTIES:
        other = copy.deepcopy(network)
        fit_head(other, features, features, penalties=(penalty,))
        found.append((other.head.weight - network.head.weight).abs().max().item())
    assert min(found) < 1e-3 * network.head.weight.abs().max().item()


def test_no_group_chooses_the_penalty_and_is_learned_from(rated: AffectiveSet) -> None:
    grouped = replace(rated, groups=np.arange(len(rated)) // 5)
    most, few = _apart(grouped, np.arange(len(rated)), seed=1)
    assert sorted([*most, *few]) == list(range(len(rated)))
    assert len(few) == 5
    assert not set(grouped.groups[most]) & set(grouped.groups[few])


def test_phase_one_may_use_some_of_the_pictures(
    tmp_path: Path, rated: AffectiveSet, partition: Partition, settings: FitSettings, straight: Run
) -> None:
    run = Run(tmp_path / "some")
    fit(rated, partition, replace(settings, head_pictures=0, epochs=0), run, device=CPU)
    assert float(log_of(run)[0]["validation_loss"]) < float(log_of(straight)[0]["validation_loss"])


@pytest.mark.parametrize(
    ("wrong", "refusal"),
    [
        ({"augment": ("flip", "upside-down")}, AugmentationError),
        ({"reads": ("Mixed_9z",)}, InceptionError),
        ({"frozen": "Mixed_9z"}, InceptionError),
        ({"weights": "missing.safetensors"}, OSError),
    ],
)
def test_what_can_be_refused_is_refused_before_the_run_begins(
    tmp_path: Path,
    rated: AffectiveSet,
    partition: Partition,
    settings: FitSettings,
    wrong: dict[str, object],
    refusal: type[Exception],
) -> None:
    run = Run(tmp_path / "never")
    with pytest.raises(refusal):
        fit(rated, partition, replace(settings, **wrong), run, device=CPU)  # type: ignore[arg-type]
    assert not run.folder.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("head_pictures", -5), ("epochs", -1), ("rate", -1.0), ("rate", math.nan), ("rate", math.inf),
        ("layer_decay", 1.1), ("batch", 0), ("weight_decay", -0.1), ("dropout", 1.0), ("dropout", 2.0),
        ("mixup", -0.1), ("teacher_weight", -1.0), ("teacher_share", 1.5), ("seed", -1), ("seed", 2**32),
    ],
)  # fmt: skip
def test_numbers_that_mean_nothing_are_refused(name: str, value: float) -> None:
    option = name.replace("_", "-")
    with pytest.raises(FitError, match=rf"--{option} \S+ is out of range: it must be a number of at least"):
        FitSettings(**{name: value})  # type: ignore[arg-type]


def test_processes_that_see_other_pictures_or_emotions_do_not_agree(
    rated: AffectiveSet, partition: Partition, settings: FitSettings
) -> None:
    moved = replace(rated, pictures=tuple(Path("elsewhere", *path.parts[-2:]) for path in rated.pictures))
    renamed = (rated.pictures[0].with_name("other.png"), *rated.pictures[1:])
    agreed = _what_is_learned(settings, rated, partition)
    assert agreed == _what_is_learned(settings, moved, partition), "each machine may have them where it likes"
    for other in (
        replace(rated, pictures=renamed),
        replace(rated, labels=rated.labels[::-1]),
        replace(rated, agreement=rated.agreement[::-1].copy()),
    ):
        assert _what_is_learned(settings, other, partition) != agreed
    assert _what_is_learned(settings, rated, parts(rated, train=5, validation=2)) != agreed
    assert _what_is_learned(replace(settings, rate=1.0), rated, partition) != agreed


def test_processes_with_other_start_weights_under_one_name_do_not_agree(
    rated: AffectiveSet, partition: Partition, settings: FitSettings, tmp_path: Path
) -> None:
    path = tmp_path / "start.safetensors"
    path.write_bytes(Path(settings.weights).read_bytes())
    settings = replace(settings, weights=str(path))
    agreed = _what_is_learned(settings, rated, partition)
    path.write_bytes(b"made anew on another machine")
    assert _what_is_learned(settings, rated, partition) != agreed


def test_every_epoch_sees_other_augmentations(
    tmp_path: Path, rated: AffectiveSet, start: StartWeights
) -> None:
    settings = FitSettings(side=SIDE, batch=6, dropout=0)
    network, few = build(3, start, dropout=0), parts(rated, train=2, validation=1)
    torch.nn.init.normal_(network.head.weight)
    job = phases.Job(rated, few, settings, Run(tmp_path), network, CPU, workers=0)
    optimiser = phases.make_optimiser(network, settings)
    standing = [0.0] * len(optimiser.param_groups)  # nothing is learned: losses differ by what is seen
    first, again, second = (phases.run_epoch(job, optimiser, standing, epoch) for epoch in (1, 1, 2))
    assert first == again != second


def test_the_rate_rises_and_falls() -> None:
    assert schedule(0) == 0
    assert schedule(0.05) == pytest.approx(0.5)
    assert schedule(0.1) == 1
    assert schedule(0.55) == pytest.approx(0.5)
    assert schedule(1) == pytest.approx(0)


def test_deeper_blocks_learn_slower(start: StartWeights) -> None:
    optimiser = phases.make_optimiser(build(3, start), FitSettings(rate=1.0, layer_decay=0.5))
    rates = [group["lr"] for group in optimiser.param_groups]
    blocks = [name for name in BLOCKS if not name.startswith("maxpool")]
    assert rates == [0.5**depth for depth in range(1 + len(blocks))]
    assert [len(parameter) for parameter in optimiser.param_groups[0]["params"]] == [3, 3]


def test_frozen_blocks_keep_their_start_weights(
    rated: AffectiveSet, partition: Partition, settings: FitSettings, start: StartWeights, tmp_path: Path
) -> None:
    chosen = replace(settings, frozen="Mixed_6a", epochs=1)
    network = fit(rated, partition, chosen, Run(tmp_path / "frozen"), device=CPU)
    restore(tmp_path / "frozen" / "last.safetensors", network, None)  # of the epoch, whichever was best
    moved = {
        name
        for name, block in network.blocks.items()
        for key, value in block.state_dict().items()
        if not torch.equal(value, start.state[f"{name}.{key}"])
    }
    after = BLOCKS[BLOCKS.index("Mixed_6a") + 1 :]
    assert moved == set(after)


def test_half_the_bits_learn_about_the_same(
    rated: AffectiveSet, partition: Partition, settings: FitSettings, tmp_path: Path
) -> None:
    losses = {}
    for precision in ("float32", "bfloat16"):
        chosen = replace(settings, precision=precision, epochs=1)
        fit(rated, partition, chosen, Run(tmp_path / precision), device=CPU)
        with (tmp_path / precision / "log.csv").open(newline="") as file:
            losses[precision] = [float(row["validation_loss"]) for row in csv.DictReader(file)]
    head, both = zip(losses["float32"], losses["bfloat16"], strict=True)
    assert head[0] == head[1]  # phase one is always in single precision
    assert both[0] != both[1]  # the convolutions of phase two really were in the other
    assert both[0] == pytest.approx(both[1], rel=0.1)
