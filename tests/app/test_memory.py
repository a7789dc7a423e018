from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from app.memory import available_memory

if TYPE_CHECKING:
    from pathlib import Path

MEBIBYTE = 1024**2


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    """A system with 1,000 MiB to spare."""
    path = tmp_path / "meminfo"
    path.write_text("MemTotal: 9999999 kB\nMemFree: 1 kB\nMemAvailable: 1024000 kB\n")
    return path


def group(folder: Path, limit: str, used: int, inactive: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {inactive}\nactive_file 7\n")


def test_without_groups_it_is_what_the_system_has(tmp_path: Path, meminfo: Path) -> None:
    assert available_memory(tmp_path / "none", tmp_path / "none", meminfo) == 1000 * MEBIBYTE


def test_the_tightest_group_counts_and_files_in_memory_are_free(tmp_path: Path, meminfo: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/outer/inner\n")
    root = tmp_path / "cgroup"
    group(root / "outer/inner", "max", 0, 0)
    group(root / "outer", str(600 * MEBIBYTE), 400 * MEBIBYTE, 100 * MEBIBYTE)
    assert available_memory(root, own, meminfo) == 300 * MEBIBYTE
    group(root / "outer/inner", str(50 * MEBIBYTE), 60 * MEBIBYTE, 0)
    assert available_memory(root, own, meminfo) == 0


def test_the_first_version_of_groups(tmp_path: Path, meminfo: Path) -> None:
    folder = tmp_path / "cgroup" / "memory"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(f"{500 * MEBIBYTE}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{200 * MEBIBYTE}\n")
    (folder / "memory.stat").write_text(f"inactive_file 1\ntotal_inactive_file {MEBIBYTE}\n")
    assert available_memory(tmp_path / "cgroup", tmp_path / "none", meminfo) == 301 * MEBIBYTE


def test_a_system_that_does_not_say(tmp_path: Path) -> None:
    assert available_memory(tmp_path / "none", tmp_path / "none", tmp_path / "none") is None


@pytest.mark.skipif(sys.platform != "linux", reason="nothing else says")
def test_this_system_has_some() -> None:
    available = available_memory()
    assert available is not None
    assert available > 0
