"""The measures themselves: a right map must score higher than a wrong one, or no bar means anything."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.explain import OtherLog, check, main, read
from bench.explanations.bars import faithfulness_bars, interval, soundness_bars
from bench.explanations.faithfulness import areas
from bench.explanations.report import report
from bench.explanations.soundness import rank_correlation
from tests.explain_quality.planted import Planted, planted

if TYPE_CHECKING:
    from pathlib import Path

    from app.checkpoint import Checkpoint

PICTURES = 20


@pytest.fixture(scope="module")
def pictures() -> list[Planted]:
    rng = np.random.default_rng(2000)
    return [planted(rng) for _ in range(PICTURES)]


def test_the_truth_scores_higher_than_chance_and_chance_than_the_opposite(
    network: Checkpoint, pictures: list[Planted]
) -> None:
    noise = np.random.default_rng(0)
    found: dict[str, list[float]] = {"truth": [], "random": [], "opposite": []}
    for each in pictures:
        jitter = noise.normal(0, 1e-3, each.inside.shape)
        truth = each.inside + jitter
        for name, relevance in {"truth": truth, "random": jitter, "opposite": -truth}.items():
            found[name].append(areas(network, each.pixels, each.emotion, relevance).log_odds)
    truth_, chance, opposite = (np.array(found[name]) for name in ("truth", "random", "opposite"))
    assert (truth_ > chance).mean() >= 0.9
    assert (chance > opposite).mean() >= 0.9


def test_the_areas_do_not_depend_on_the_scale_of_the_map(
    network: Checkpoint, pictures: list[Planted]
) -> None:
    each = pictures[0]
    relevance = np.random.default_rng(1).normal(size=each.inside.shape)
    plain, scaled = (areas(network, each.pixels, each.emotion, relevance * s) for s in (1.0, 50.0))
    assert plain == scaled
    assert plain.log_odds == pytest.approx(plain.insertion - plain.deletion)


def test_a_bar_passes_only_what_is_surely_better() -> None:
    rng = np.random.default_rng(0)
    weak = rng.normal(0, 1, 100)
    figures = {"dream": weak + 0.5 + rng.normal(0, 0.1, 100), "random": weak, "centre": weak + 0.495}
    by_name = {bar.asked.split()[2].rstrip(","): bar.passed for bar in faithfulness_bars("dream", figures)}
    assert by_name == {"random": True, "centre": False}


def test_near_grad_cam_is_near_enough() -> None:
    figures = {"dream": np.full(10, 0.96), "grad-cam": np.full(10, 1.0), "smoothgrad": np.full(10, 1.0)}
    passed = {bar.asked: bar.passed for bar in faithfulness_bars("dream", figures)}
    assert passed == {"at least smoothgrad": False, "at least 0.95 of grad-cam": True}


def test_soundness_has_a_bar_for_each_promise() -> None:
    good = {"randomised": 0.1, "other_emotion": 0.2, "jpeg": 0.95, "resized": 0.95, "again": 1.0}
    figures = {name: np.full(5, value) for name, value in {**good, "completeness_error": 0.01}.items()}
    assert all(bar.passed for bar in soundness_bars(figures))
    figures["again"] = np.array([1.0, 1.0, 1.0, 1.0, 0.0])
    assert [bar.passed for bar in soundness_bars(figures)].count(False) == 1


def test_an_interval_holds_its_value() -> None:
    values = np.random.default_rng(0).normal(3, 1, 200)
    for statistic in ("mean", "median", "p95"):
        value, low, high = interval(values, statistic)
        assert low < value < high


def test_rank_correlation_is_of_the_drawn_map() -> None:
    a = np.random.default_rng(0).normal(size=(60, 60)).astype(np.float32)
    assert rank_correlation(a, a) == pytest.approx(1.0)
    assert rank_correlation(a, -a) == pytest.approx(-1.0)


def test_five_points_tell_an_area_nearly_as_well_as_many(
    network: Checkpoint, pictures: list[Planted]
) -> None:
    few, many = [], []
    for each in pictures:
        about = network, each.pixels, each.emotion, each.inside.astype(np.float32)
        few.append(areas(*about).log_odds)
        many.append(areas(*about, 40).log_odds)
    assert np.mean(few) == pytest.approx(np.mean(many), rel=0.1)


HOW: dict[str, str | int] = {"checkpoint": "a" * 64, "points": 5, "seed": 0}


@pytest.mark.parametrize("other", [{"checkpoint": "b" * 64}, {"points": 24}, {"seed": 1}])
def test_figures_that_were_measured_otherwise_are_not_put_together(
    tmp_path: Path, other: dict[str, str | int]
) -> None:
    line = {"picture": "a", "methods": {}, "soundness": {}}
    check([HOW | line], HOW)
    (what,) = other
    with pytest.raises(OtherLog, match=what):
        check([HOW | line], HOW | other)
    with pytest.raises(OtherLog, match="checkpoint of an unknown one"):
        check([line], HOW)  # of before this was written down
    log = tmp_path / "mixed.jsonl"
    log.write_text(f"{json.dumps(HOW | line)}\n{json.dumps(HOW | other | line)}\n")
    with pytest.raises(OtherLog, match=what):
        read([log])


def test_a_log_of_another_checkpoint_is_not_gone_on_with_and_not_reported(
    tmp_path: Path, checkpoint_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps(HOW | {"picture": "a", "methods": {}, "soundness": {}}) + "\n")
    with pytest.raises(OtherLog, match="checkpoint"):
        main(["--checkpoint", str(checkpoint_path), "--report", str(log), "--log", str(tmp_path / "new")])


def test_what_several_lines_say_of_a_picture_is_put_together(tmp_path: Path) -> None:
    figures = {"log_odds": 1.0, "share": 0.1, "insertion": 1.0, "deletion": 0.0, "seconds": 0.5}
    lines = [
        HOW | {"picture": "a", "methods": {"dream": figures, "random": figures}, "soundness": {}},
        HOW | {"picture": "b", "methods": {"dream": figures, "random": figures}, "soundness": {}},
        HOW | {"picture": "a", "methods": {"dream": {"road": 0.2, "seconds": 0.5}}, "soundness": {}},
    ]
    logs = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    for log, some in zip(logs, (lines[:2], lines[2:]), strict=True):
        log.write_text("".join(json.dumps(line) + "\n" for line in some))
    known = read([*logs, tmp_path / "none.jsonl"])
    assert known["a"]["methods"]["dream"] == figures | {"road": 0.2}
    told = report(list(known.values()), "tiny 1", 7)
    assert "by 7 points" in told
    assert "| dream | 2 |" in told
    assert "ROAD, log-odds, 1 pictures" not in told  # no rival has it for the same picture
    assert "| better than random, p < 0.01 | +0.000" in told
