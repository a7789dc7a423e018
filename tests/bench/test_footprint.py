from __future__ import annotations

import os

import pytest

from bench.footprint import CASES, SHIPPED, Footprint, section
from bench.machine import MEBIBYTE, memory


@pytest.mark.parametrize(("ready", "verdict"), [(4.9, "passed"), (5.1, "**FAILED**")])
def test_the_verdict_is_that_of_the_middle_start(ready: float, verdict: str) -> None:
    def once(seconds: float) -> Footprint:
        return Footprint(seconds, 2 * MEBIBYTE, 3 * MEBIBYTE, 4 * MEBIBYTE, [0.025], [0.5], 10.0)

    found = {case.name: [once(9.0)] for case in CASES}
    found[SHIPPED.name] = [once(9.0), once(1.0), once(ready)]
    *_, row, bar = (line for line in section(found).splitlines() if line.startswith("| as shipped"))
    assert "| 2 / 3 / 4 | 25 (25 to 25) | 500 (500 to 500) | 2 |" in row
    assert bar.endswith(f"| {ready} s | {verdict} |")


def test_memory_is_what_linux_counts() -> None:
    own = os.getpid()
    before = memory(own, "VmRSS")
    held = bytearray(os.urandom(64 * MEBIBYTE))
    assert memory(own, "VmRSS") - before > 0.9 * len(held)
    assert memory(own, "VmRSS") <= memory(own, "VmHWM")  # read in this order: it may grow between
    with pytest.raises(RuntimeError, match="VmNothing"):
        memory(own, "VmNothing")
