from __future__ import annotations

from typing import Any

import pytest

from bench.model import CONTENDERS, PEERS, SERVED, TORCHSCRIPT, section


def _told(milliseconds: float) -> dict[str, Any]:
    times = {batch: [milliseconds] for batch in ("1", "8", "32")}
    figures = {
        "gemm": 100.0,
        "operations": 5.0,
        "differs": 1e-6,
        "started": 1.0,
        "faults": 1000,
        "peak": 2,
        "resident": 1,
    }
    return {"times": times, **figures}


@pytest.mark.parametrize(
    ("served", "peer", "verdicts"),
    [
        (75.0, 72.0, ["passed", "**FAILED**", "passed"]),
        (76.0, 75.0, ["**FAILED**", "**FAILED**", "passed"]),
        (70.0, 60.0, ["passed", "**FAILED**", "**FAILED**"]),
        (62.0, 60.0, ["passed", "passed", "passed"]),
    ],
)
def test_the_verdicts_are_those_of_the_bars(served: float, peer: float, verdicts: list[str]) -> None:
    found = {contender.name: [_told(200.0)] for contender in CONTENDERS}
    found[TORCHSCRIPT.name], found[SERVED.name] = [_told(100.0)], [_told(served)]
    found[PEERS[1]] = [_told(peer)]
    bars = section(found).splitlines()[-3:]
    assert [bar.split(" | ")[-1].removesuffix(" |") for bar in bars] == verdicts
