"""Short storms; ``make chaos`` and ``make soak`` run long ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.faults.storm import storm, victim

if TYPE_CHECKING:
    from pathlib import Path


def test_chaos(checkpoint_path: Path) -> None:
    with victim(checkpoint_path, deaths_every=0.5) as url:
        report = storm(url, 600, rude=0.3, broken=0.3, explanations=0.05)
    assert sum(report.answers.values()) == 600
    assert report.answers["left"] > 0
    assert report.restarts > 0
    report.check()


def test_a_soak(checkpoint_path: Path) -> None:
    with victim(checkpoint_path, deaths_every=0) as url:
        report = storm(url, 1000, rude=0, broken=0, explanations=0)
    assert report.answers == {"200": 1000}
    report.check()
