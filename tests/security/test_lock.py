"""What the image installs is written down with digests, and is what pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "deploy/requirements.lock").read_text("utf-8")
TORCH = Requirement((ROOT / "deploy/torch_version.txt").read_text("utf-8").strip())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
ASKED = [Requirement(line) for line in PROJECT["dependencies"]]
TRACING = [Requirement(line) for line in PROJECT["optional-dependencies"]["tracing"]]


def entries(lock: str) -> dict[str, tuple[Version, list[str]]]:
    """Each package's version and digests."""
    found: dict[str, tuple[Version, list[str]]] = {}
    name = ""
    for line in lock.splitlines():
        if pinned := re.fullmatch(r"([a-z0-9-]+)==(\S+) \\", line):
            name = pinned[1]
            found[name] = (Version(pinned[2]), [])
        elif digest := re.fullmatch(r"    --hash=sha256:([0-9a-f]{64})(?: \\)?", line):
            found[name][1].append(digest[1])
        elif line and not line.lstrip().startswith("#"):
            raise ValueError(line)
    return found


def missing(asked: list[Requirement], lock: str) -> list[str]:
    """What is asked for and not locked, or locked outside the range."""
    locked = {name: version for name, (version, _) in entries(lock).items()}
    return [str(each) for each in asked if each.name not in locked or locked[each.name] not in each.specifier]


def test_all_that_pyproject_asks_for_is_locked_within_its_range() -> None:
    assert missing([each for each in ASKED if each.name != "torch"], LOCK) == []


def test_the_image_can_send_the_traces_that_compose_lets_through() -> None:
    assert "DEEPEMOTION_TRACES:" in (ROOT / "docker-compose.yml").read_text("utf-8")
    assert missing(TRACING, LOCK) == []


FIXED = {"pillow": "12.3.0", "python-multipart": "0.0.31", "starlette": "1.3.1"}
"""The first releases without vulnerabilities that a stranger's upload reaches."""


@pytest.mark.parametrize("name", FIXED)
def test_no_release_with_known_holes_is_allowed(name: str) -> None:
    (asked,) = (each for each in ASKED if each.name == name)
    (floor,) = (each for each in asked.specifier if each.operator == ">=")
    assert Version(floor.version) >= Version(FIXED[name])
    assert entries(LOCK)[name][0] >= Version(FIXED[name])


def test_torch_is_pinned_apart_within_its_range() -> None:
    (pin,) = TORCH.specifier
    (asked,) = (each for each in ASKED if each.name == "torch")
    assert pin.operator == "=="
    assert Version(pin.version) in asked.specifier
    assert "torch" not in entries(LOCK)


def test_everything_has_digests() -> None:
    locked = entries(LOCK)
    assert len(locked) > 30
    assert [name for name, (_, digests) in locked.items() if not digests] == []


def test_the_lock_names_no_host_and_nothing_of_cuda() -> None:
    assert "://" not in LOCK
    assert [name for name in entries(LOCK) if name.startswith(("nvidia", "cuda", "triton"))] == []


def test_the_image_installs_nothing_but_what_is_locked_and_torch() -> None:
    commands = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    installs = re.findall(r"pip install [^&\n]*", commands)
    assert [each.strip() for each in installs] == [
        "pip install --require-hashes -r deploy/requirements.lock",
        "pip install --no-deps --no-build-isolation .",
    ]


@pytest.mark.parametrize("asked", ["nothing-such", "pillow>=1000", "h11<0.1"])
def test_what_is_not_locked_would_be_seen(asked: str) -> None:
    assert missing([Requirement(asked)], LOCK) == [asked]
