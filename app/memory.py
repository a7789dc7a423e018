"""How much memory this process may still take."""

from __future__ import annotations

from pathlib import Path

from app.cpus import CGROUPS, groups_v2


def available_memory(
    root: Path = CGROUPS,
    own: Path = Path("/proc/self/cgroup"),
    meminfo: Path = Path("/proc/meminfo"),
) -> int | None:
    """Bytes that can be taken before the system or the control group has none left; None if nobody says.

    Files that are kept in memory only because there is room count as available.

    Args:
        root: where control groups are mounted.
        own: the file that names this process's groups.
        meminfo: what the system says of itself.
    """
    left = [_left_v2(group) for group in groups_v2(root, own)]
    left += [_left_v1(root / "memory"), _left_in_system(meminfo)]
    known = [each for each in left if each is not None]
    return max(0, min(known)) if known else None


def _left_in_system(meminfo: Path) -> int | None:
    if not meminfo.is_file():
        return None
    kibibytes = _field(meminfo, "MemAvailable:")
    return None if kibibytes is None else kibibytes * 1024


def _left_v2(group: Path) -> int | None:
    limit, used = group / "memory.max", group / "memory.current"
    if not (limit.is_file() and used.is_file()):
        return None
    text = limit.read_text("ascii").strip()
    if text == "max":
        return None
    return int(text) - int(used.read_text("ascii")) + (_field(group / "memory.stat", "inactive_file") or 0)


def _left_v1(group: Path) -> int | None:
    limit, used = group / "memory.limit_in_bytes", group / "memory.usage_in_bytes"
    if not (limit.is_file() and used.is_file()):
        return None
    freeable = _field(group / "memory.stat", "total_inactive_file") or 0
    return int(limit.read_text("ascii")) - int(used.read_text("ascii")) + freeable


def _field(file: Path, name: str) -> int | None:
    """The number after a name at the beginning of a line."""
    for line in file.read_text("ascii").splitlines():
        words = line.split()
        if words[:1] == [name]:
            return int(words[1])
    return None
