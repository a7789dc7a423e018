from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from bench.engines import exported
from bench.model import COMPILED, CONTENDERS, PEERS, SERVED, section
from tests.tiny import SIDE

if TYPE_CHECKING:
    from app.checkpoint import Checkpoint


@pytest.mark.parametrize("count", [1, 5])
def test_the_exported_graph_judges_any_number_of_pictures_as_the_checkpoint(
    judging: Checkpoint, count: int
) -> None:
    pictures = torch.randint(0, 256, (count, 3, SIDE, SIDE), dtype=torch.uint8)
    pictures = pictures.to(memory_format=torch.channels_last)
    with torch.no_grad():
        answers = exported(judging).module()(pictures)
        for answer, expected in zip(answers, judging.network.judge(pictures), strict=True):
            assert answer.shape == expected.shape
            np.testing.assert_allclose(answer, expected, atol=1e-5)


def _told(milliseconds: float) -> dict[str, Any]:
    times = {batch: [milliseconds] for batch in ("1", "8", "32")}
    figures = {"gemm": 100.0, "differs": 1e-6, "started": 1.0, "faults": 1000, "peak": 2, "resident": 1}
    return {"times": times, **figures}


@pytest.mark.parametrize(
    ("compiled", "peer", "verdicts"),
    [
        (75.0, 72.0, ["passed", "passed"]),
        (76.0, 75.0, ["**FAILED**", "passed"]),
        (70.0, 60.0, ["passed", "**FAILED**"]),
    ],
)
def test_the_verdicts_are_those_of_the_bars(compiled: float, peer: float, verdicts: list[str]) -> None:
    found = {contender.name: [_told(200.0)] for contender in CONTENDERS}
    found[SERVED.name], found[COMPILED.name] = [_told(100.0)], [_told(compiled)]
    found[PEERS[1]] = [_told(peer)]
    bars = section(found).splitlines()[-2:]
    assert [bar.split(" | ")[-1].removesuffix(" |") for bar in bars] == verdicts
