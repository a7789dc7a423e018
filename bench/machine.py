"""The machine that the figures hold for, and how much of it others took meanwhile."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from app.cpus import available_cpus

if TYPE_CHECKING:
    from collections.abc import Iterable

MEBIBYTE = 1024**2
GIBIBYTE = 1024**3


def describe() -> str:
    """Processor, memory and system in one line."""
    memory = psutil.virtual_memory().total / GIBIBYTE
    system = platform.platform()
    release = Path("/etc/os-release")
    if release.is_file():
        fields = dict(line.split("=", 1) for line in release.read_text("utf-8").splitlines() if "=" in line)
        system = f"{fields.get('PRETTY_NAME', '').strip(chr(34))}, Linux {platform.release()}"
    return f"{_processor()}, {available_cpus()} usable cores, {memory:.0f} GiB of memory, {system}"


def version(python: Path, package: str) -> str:
    """Of a package in some environment."""
    lines = f"import importlib.metadata; print(importlib.metadata.version({package!r}))"
    done = subprocess.run([str(python), "-c", lines], check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return done.stdout.strip()


def commit(checkout: Path | None = None) -> str:
    """Of a working tree, this one if none is given, with a plus if it has changes."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=checkout)  # noqa: S603
    return done.stdout.strip() or "unknown"


@dataclass(frozen=True)
class Taken:
    """Processor time since a `Watch` began.

    Attributes:
        ours: seconds, of this process and all that it started.
        others: share of the whole machine's time that anybody else took, a hypervisor included.
    """

    ours: float
    others: float


class Watch:
    """Tells whose processor time went by; a comparison is worth little if others took much of it."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._busy, self._ours = _busy_seconds(), _our_seconds()

    def taken(self) -> Taken:
        """Since the beginning."""
        elapsed = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        ours = _our_seconds() - self._ours
        return Taken(ours, max(0.0, _busy_seconds() - self._busy - ours) / elapsed)


def memory(pid: int, figure: str) -> int:
    """Bytes that a process has (``VmRSS``), or had at most (``VmHWM``), as Linux counts them.

    Raises:
        RuntimeError: this system does not say.
    """
    status = Path(f"/proc/{pid}/status")
    found = re.search(rf"^{figure}:\s+(\d+) kB", status.read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{status} does not say {figure}")
    return 1024 * int(found[1])


def _processor() -> str:
    lines = Path("/proc/cpuinfo")
    if lines.is_file():
        for line in lines.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)


def processor_seconds(processes: Iterable[psutil.Process]) -> float:
    """Processor time of processes, and of their children that have ended."""
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])
    return total


def _our_seconds() -> float:
    me = psutil.Process()
    return processor_seconds([me, *me.children(recursive=True)])
