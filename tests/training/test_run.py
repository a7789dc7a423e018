from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import pytest
import torch

from training.inception import EmotionInception
from training.run import Run, RunError, notes_of, restore, save

if TYPE_CHECKING:
    from pathlib import Path

RECORD: dict[str, Any] = {
    "settings": {"seed": 1, "reads": ("Mixed_7c",), "rate": 3e-4},
    "labels": ("joy", "fear"),
}
WIDTH = 2048


def test_a_run_that_does_not_say_how_it_was_made_cannot_be_released(tmp_path: Path) -> None:
    Run(tmp_path / "bare").begin(RECORD, resume=False)
    with pytest.raises(RunError, match=r"has no command and no split written down.*train it anew"):
        Run(tmp_path / "bare").complete_record()
    whole = {**RECORD, "command": "python", "split": {}}
    Run(tmp_path / "whole").begin(whole, resume=False)
    assert Run(tmp_path / "whole").complete_record()["command"] == "python"


def network(seed: int) -> EmotionInception:
    torch.manual_seed(seed)
    return EmotionInception(2, mean=0.5, std=0.5, count_border=True)


def step(made: EmotionInception, optimiser: torch.optim.Optimizer) -> None:
    """One step of the last layer, with a gradient that depends on its weights."""
    optimiser.zero_grad()
    loss = (made.head(torch.ones(1, WIDTH)) - 3).square().sum()
    loss.backward()
    optimiser.step()


def optimiser_of(made: EmotionInception) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        [{"params": [made.head.weight], "lr": 0.01}, {"params": [made.head.bias], "lr": 0.1}]
    )


def test_a_run_writes_down_what_it_is(tmp_path: Path) -> None:
    run = Run(tmp_path / "runs" / "first")
    run.begin(RECORD, resume=False)
    assert run.record()["labels"] == ["joy", "fear"]
    assert run.record()["settings"] == {"seed": 1, "reads": ["Mixed_7c"], "rate": 3e-4}


def test_a_folder_is_used_again_only_to_go_on(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.begin(RECORD, resume=False)
    with pytest.raises(RunError, match="holds a run already; pass --resume"):
        run.begin(RECORD, resume=False)
    run.begin(RECORD, resume=True)


def test_going_on_with_a_run_that_never_began_begins_it(tmp_path: Path) -> None:
    run = Run(tmp_path / "new")
    run.begin(RECORD, resume=True)
    assert run.record()["labels"] == ["joy", "fear"]


def test_another_run_is_not_gone_on_with(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.begin(RECORD, resume=False)
    before = run.record()
    other = {"settings": {**RECORD["settings"], "rate": 1e-3}, "labels": ("joy", "fear"), "new": 1}
    with pytest.raises(RunError, match=r"begun with other settings: new, settings$"):
        run.begin(other, resume=True)
    with pytest.raises(RunError, match=r"begun with other settings: labels$"):
        run.begin({"settings": RECORD["settings"]}, resume=True)
    assert run.record() == before


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        Run(tmp_path / "nothing").record()


def test_the_log_has_one_header_and_a_line_an_epoch(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.log({"phase": "head", "epoch": 0, "loss": 1.5})
    run.log({"phase": "all", "epoch": 1, "loss": 9.0})  # then the run was cut before the epoch was saved
    run.log({"phase": "all", "epoch": 1, "loss": 1.25})
    with (tmp_path / "log.csv").open(newline="") as file:
        rows = [list(row.values()) for row in csv.DictReader(file)]
    assert rows == [["head", "0", "1.5"], ["all", "1", "1.25"]]


def test_network_optimiser_and_progress_come_back(tmp_path: Path) -> None:
    first = network(1).to(memory_format=torch.channels_last)  # as it is trained
    optimiser = optimiser_of(first)
    for _ in range(3):
        step(first, optimiser)
    save(tmp_path / "last.safetensors", first, optimiser, {"epoch": "3"})

    second = network(2)
    again = optimiser_of(second)
    assert restore(tmp_path / "last.safetensors", second, again) == {"epoch": "3"}
    for key, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[key], value), key
    expected, found = optimiser.state_dict(), again.state_dict()
    assert found["param_groups"] == expected["param_groups"]
    assert found["state"].keys() == expected["state"].keys()
    for index, state in expected["state"].items():
        assert state.keys() == {"step", "exp_avg", "exp_avg_sq"}
        for name, value in state.items():
            assert torch.equal(found["state"][index][name], value)
    step(first, optimiser)
    step(second, again)
    assert torch.equal(first.head.weight, second.head.weight)


def test_a_network_without_an_optimiser_comes_back_to_a_fresh_one(tmp_path: Path) -> None:
    save(tmp_path / "last.safetensors", network(1), None, {"epoch": "0"})
    second = network(2)
    fresh = optimiser_of(second)
    assert restore(tmp_path / "last.safetensors", second, fresh) == {"epoch": "0"}
    assert fresh.state_dict()["state"] == {}
    assert [group["lr"] for group in fresh.param_groups] == [0.01, 0.1]
    step(second, fresh)


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    save(path, network(1), None, {"epoch": "1"})
    before = path.read_bytes()
    blocked = tmp_path / ".best.safetensors.unfinished"
    blocked.mkdir()  # so nothing can be written there
    with pytest.raises(Exception, match=r"(?i)is a directory"):
        save(path, network(2), None, {"epoch": "2"})
    assert path.read_bytes() == before
    blocked.rmdir()
    save(path, network(2), None, {"epoch": "2"})
    assert path.read_bytes() != before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best.safetensors"]


def test_what_is_damaged_is_named(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.begin(RECORD, resume=False)
    made = network(0)
    save(run.best, made, None, {"epoch": "1"})
    whole = run.best.read_bytes()
    run.best.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match=r"best\.safetensors is damaged"):
        restore(run.best, made, None)
    with pytest.raises(RunError, match=r"best\.safetensors is damaged"):
        notes_of(run.best)
    (tmp_path / "run.json").write_text("")
    with pytest.raises(RunError, match=r"run\.json is damaged"):
        run.record()
