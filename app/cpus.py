"""How many processors this process may really use, and which of them share a socket."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

CGROUPS = Path("/sys/fs/cgroup")
NODES = Path("/sys/devices/system/node")


SPINS = 10_000
"""Turns that one of GNU OpenMP's threads waits in before it sleeps; by itself it takes 300,000. Where another
process wants the same processor, each of those is taken from the thread that is waited for, many times a
gradient: ``python -m bench.neighbour`` measures it."""


def spin_briefly(environment: MutableMapping[str, str]) -> None:
    """Say so to OpenMP, unless somebody has said how to wait. It asks once, when torch is imported."""
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & environment.keys():
        environment["GOMP_SPINCOUNT"] = str(SPINS)


def allowed_cpus() -> frozenset[int]:
    """The processors that the scheduler may put this process on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def cpu_quota(root: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> float | None:
    """Processors' worth of time that the control group may use; None is no limit.

    Every group above has a say too, so the least is what counts. Within a container its own group is the
    root that it sees.

    Args:
        root: where control groups are mounted.
        own: the file that names this process's groups.
    """
    quotas = [_quota_v2(group) for group in groups_v2(root, own)]
    quotas.append(_quota_v1(root / "cpu"))
    known = [quota for quota in quotas if quota is not None]
    return min(known) if known else None


def groups_v2(root: Path, own: Path) -> list[Path]:
    """The process's own group and all above it."""
    if not own.is_file():
        return [root]
    line = next((line for line in own.read_text().splitlines() if line.startswith("0::")), "0::/")
    group = root / line.removeprefix("0::").lstrip("/")
    return [group, *(parent for parent in group.parents if parent.is_relative_to(root))]


def available_cpus() -> int:
    """Threads that can compute at once: by affinity and, rounded down, by quota; at least 1.

    A fraction of a processor is left out because a thread that the quota stops makes all the others of a
    parallel region wait for it.
    """
    allowed = len(allowed_cpus())
    quota = cpu_quota()
    return allowed if quota is None else max(1, min(allowed, math.floor(quota)))


def sockets(nodes: Path = NODES) -> tuple[frozenset[int], ...]:
    """The allowed processors, grouped by the memory that is near them.

    One group where the system does not say, or where all are near the same memory.
    """
    allowed = allowed_cpus()
    lists = sorted(nodes.glob("node[0-9]*/cpulist"))
    groups = tuple(group for each in lists if (group := parse_cpu_list(each.read_text("ascii")) & allowed))
    return groups if frozenset().union(*groups) == allowed else (allowed,)


def parse_cpu_list(text: str) -> frozenset[int]:
    """The numbers in Linux's list format, as in ``0-3,8,10-11``."""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            cpus.update(range(int(first), int(last or first) + 1))
    return frozenset(cpus)


def _quota_v2(group: Path) -> float | None:
    file = group / "cpu.max"
    if not file.is_file():
        return None
    quota, period = file.read_text("ascii").split()
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(group: Path) -> float | None:
    quota, period = group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us"
    if not (quota.is_file() and period.is_file()):
        return None
    microseconds = int(quota.read_text("ascii"))
    return None if microseconds <= 0 else microseconds / int(period.read_text("ascii"))
