from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from app import cpus

if TYPE_CHECKING:
    from pathlib import Path


def group(folder: Path, quota: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.max").write_text(f"{quota}\n")


def named(tmp_path: Path, text: str) -> Path:
    own = tmp_path / "cgroup"
    own.write_text(text)
    return own


@pytest.mark.parametrize(
    ("quotas", "expected"),
    [
        ({}, None),
        ({"": "max 100000"}, None),
        ({"": "150000 100000"}, 1.5),
        ({"": "max 100000", "pod": "200000 100000", "pod/box": "max 100000"}, 2.0),
        ({"pod": "400000 100000", "pod/box": "50000 100000"}, 0.5),
    ],
)
def test_the_least_quota_of_all_groups_above(
    tmp_path: Path, quotas: dict[str, str], expected: float | None
) -> None:
    root = tmp_path / "root"
    for name, quota in quotas.items():
        group(root / name, quota)
    assert cpus.cpu_quota(root, named(tmp_path, "0::/pod/box\n")) == expected


def test_the_older_control_groups(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    quota = tmp_path / "cpu" / "cpu.cfs_quota_us"
    own = named(tmp_path, "4:cpu,cpuacct:/box\n")
    quota.write_text("250000\n")
    assert cpus.cpu_quota(tmp_path, own) == 2.5
    quota.write_text("-1\n")
    assert cpus.cpu_quota(tmp_path, own) is None


@pytest.mark.parametrize(
    ("allowed", "quota", "expected"),
    [(8, None, 8), (8, 3.9, 3), (2, 64.0, 2), (4, 0.5, 1)],
)
def test_available(monkeypatch: pytest.MonkeyPatch, allowed: int, quota: float | None, expected: int) -> None:
    monkeypatch.setattr(cpus, "allowed_cpus", lambda: frozenset(range(allowed)))
    monkeypatch.setattr(cpus, "cpu_quota", lambda: quota)
    assert cpus.available_cpus() == expected


def test_on_this_machine() -> None:
    assert 1 <= cpus.available_cpus() <= len(cpus.allowed_cpus()) <= (os.cpu_count() or 1)
    assert frozenset().union(*cpus.sockets()) == cpus.allowed_cpus()


@pytest.mark.parametrize(
    ("text", "expected"), [("0-3,8,10-11\n", {0, 1, 2, 3, 8, 10, 11}), ("5", {5}), ("\n", set())]
)
def test_lists(text: str, expected: set[int]) -> None:
    assert cpus.parse_cpu_list(text) == expected


def test_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("node0", "0-3"), ("node1", "4-7"), ("node2", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cpulist").write_text(text)
    monkeypatch.setattr(cpus, "allowed_cpus", lambda: frozenset({2, 3, 4}))
    assert cpus.sockets(tmp_path) == (frozenset({2, 3}), frozenset({4}))
    monkeypatch.setattr(cpus, "allowed_cpus", lambda: frozenset({2, 9}))  # one that no node names
    assert cpus.sockets(tmp_path) == (frozenset({2, 9}),)


def test_openmp_s_threads_wait_briefly_unless_somebody_has_said_how() -> None:
    said: list[dict[str, str]] = [{}, {"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}]
    for environment in said:
        cpus.spin_briefly(environment)
    assert said == [
        {"GOMP_SPINCOUNT": str(cpus.SPINS)},
        {"GOMP_SPINCOUNT": "7"},
        {"OMP_WAIT_POLICY": "active"},
    ]


def test_it_is_said_before_torch_is_there() -> None:
    program = (
        "import os, sys\n"
        "from app import cli\n"
        "cli.cli = lambda: print('torch' in sys.modules, os.environ['GOMP_SPINCOUNT'])\n"
        "cli.main()"
    )
    said_already = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}
    clean = {name: value for name, value in os.environ.items() if name not in said_already}
    done = subprocess.run(
        [sys.executable, "-c", program], env=clean, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["False", str(cpus.SPINS)]
