from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from training.__main__ import main
from training.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's log of two epochs."""
    folder = tmp_path / "run"
    folder.mkdir()
    for epoch, (train, validation) in enumerate([(1.5, 1.75), (1.25, 1.5)]):
        row = {"phase": "all", "epoch": epoch, "train_loss": train, "validation_loss": validation}
        Run(folder).log(row | {"seconds": 2.0})
    return folder


def test_tensorboard_reads_the_log(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tensorboard", str(run)]) == 0
    found = EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    assert sorted(found.Tags()["scalars"]) == ["loss/train", "loss/validation", "seconds"]
    assert [(event.step, event.value) for event in found.Scalars("loss/validation")] == [(0, 1.75), (1, 1.5)]
    assert "2 epochs" in capsys.readouterr().out


def test_nothing_is_written_beside_older_events(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "tensorboard").mkdir()
    assert main(["tensorboard", str(run)]) == 1
    assert "is there already" in " ".join(capsys.readouterr().err.split())


def test_where_tensorboard_is_missing_its_extra_is_named(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert main(["tensorboard", str(run)]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert (wanted := "pip install -e '.[training,tensorboard]'") in told
    guide = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")
    assert wanted in " ".join(guide.split())


def test_a_folder_without_a_log_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tensorboard", str(tmp_path)]) == 1
    assert "holds no log" in " ".join(capsys.readouterr().err.split())
