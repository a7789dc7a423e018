from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from app.checkpoint import Checkpoint
from app.devices import Device
from app.doctor import (
    DRAWING_BYTES,
    PYTHONS,
    TORCHES,
    State,
    check_forward_pass,
    check_memory,
)
from app.engine import Model
from app.offline.loading import Loaded
from app.picture import DECODING_BYTES
from tests.tiny import TinyNetwork, tiny_card

if TYPE_CHECKING:
    from app.settings import Settings

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]


def test_the_versions_are_those_that_the_package_asks_for() -> None:
    first, beyond = (".".join(map(str, version)) for version in PYTHONS)
    assert PROJECT["requires-python"] == f">={first},<{beyond}"
    first, beyond = (".".join(map(str, version)) for version in TORCHES)
    assert f"torch>={first},<{beyond}" in PROJECT["dependencies"]


def test_memory(base_settings: Settings) -> None:
    one = DECODING_BYTES * base_settings.max_pixels
    needed = base_settings.upload_memory_bytes + base_settings.unread_memory_bytes
    needed += base_settings.decode_threads * one + DRAWING_BYTES * base_settings.max_pixels
    cases = (
        (needed, State.OK),
        (needed - 1, State.WARN),
        (one, State.WARN),
        (one - 1, State.FAIL),
        (None, State.WARN),
    )
    for available, state in cases:
        check = check_memory(base_settings, available)
        assert check.state is state
        assert bool(check.change) == (state is not State.OK)


def loaded(network: TinyNetwork) -> Loaded:
    cpu = torch.device("cpu")
    copy = Checkpoint(torch.jit.script(network.eval()), tiny_card(), "0" * 64, cpu)
    return Loaded(Model((copy,)), (Device(cpu, threads=1),))


class Failing(TinyNetwork):
    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        if pictures.shape[0] >= 0:
            raise RuntimeError("no such kernel")
        return pictures


class Blind(TinyNetwork):
    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.log(pictures.to(torch.float32).mean(dim=(2, 3)) - 1.0)


@pytest.mark.parametrize(
    ("network", "state", "words"),
    [
        (TinyNetwork, State.OK, "ms for one picture on cpu"),
        (Failing, State.FAIL, "no such kernel"),
        (Blind, State.FAIL, "not a number"),
    ],
)
def test_a_forward_pass(network: type[TinyNetwork], state: State, words: str) -> None:
    check = check_forward_pass(loaded(network()))
    assert check.state is state
    assert words in check.found
    assert bool(check.change) == (state is not State.OK)


def test_a_slow_forward_pass_is_a_warning() -> None:
    assert check_forward_pass(loaded(TinyNetwork()), slow=0).state is State.WARN
