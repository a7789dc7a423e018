"""What a neighbour that computes costs the service, and ways of waiting that may spare it that.

    python -m bench.neighbour        about 5 minutes

Threads that compute together wait for one another many times in a picture. GNU OpenMP's, of which gradients
are made, spin while they wait, which is fastest as long as each has a processor; predictions are made by ONNX
Runtime's own threads, which these settings do not change. The neighbour is one process that does nothing but
count, so one of the processors has to be shared.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from app.cpus import available_cpus
from bench import machine, pictures
from bench.footprint import KIND, MILLI, Case, circumstances_of, in_turns, seconds
from bench.report import bullets, progress, replace_section, table
from bench.servers import OURS, running
from bench.spread import Spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bench.servers import Server

ROUNDS = 2
PREDICTIONS = 30
EXPLANATIONS = 4
CASES = (
    Case("as shipped"),
    Case("GOMP_SPINCOUNT=300000, libgomp's own", {"GOMP_SPINCOUNT": "300000"}),
    Case("GOMP_SPINCOUNT=1000", {"GOMP_SPINCOUNT": "1000"}),
    Case("OMP_WAIT_POLICY=passive", {"OMP_WAIT_POLICY": "passive"}),
)
KINDS = {"/predict": PREDICTIONS, "/explain": EXPLANATIONS}
Found = dict[tuple[str, str, bool], list[float]]
"""Seconds of each answer, by the case, what was asked, and whether there was a neighbour."""


@contextmanager
def neighbour() -> Iterator[None]:
    """A process that keeps one processor busy."""
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


def measure(case: Case, jpeg: bytes, threads: int, found: Found) -> float:
    """Ask one service, alone and beside the neighbour; the share that others took while it was alone."""
    with running(OURS, jpeg, threads=threads, environment=case.environment) as server:
        seconds(server, "/explain", jpeg)  # the first warms up
        watch = machine.Watch()
        _ask(server, jpeg, found, (case.name, False))
        others = watch.taken().others
        with neighbour():
            _ask(server, jpeg, found, (case.name, True))
    return others


def _ask(server: Server, jpeg: bytes, found: Found, how: tuple[str, bool]) -> None:
    name, crowded = how
    for path, count in KINDS.items():
        taken = [seconds(server, path, jpeg) for _ in range(count)]
        found.setdefault((name, path, crowded), []).extend(taken)


def section(found: Mapping[tuple[str, str, bool], list[float]]) -> str:
    """In Markdown."""
    rows = []
    for case in CASES:
        figures = [
            f"{Spread.of_many(MILLI * each for each in found[case.name, path, crowded]):.0f}"
            for path in KINDS
            for crowded in (False, True)
        ]
        rows.append((case.name, *figures))
    head = tuple(f"{path}, ms, {how}" for path in KINDS for how in ("alone", "with a neighbour"))
    return table(("service", *head), rows)


def main() -> None:
    """Measure and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    threads, began = available_cpus(), time.monotonic()
    jpeg = pictures.make(KIND, 0)
    found: Found = {}
    others = [measure(case, jpeg, threads, found) for case in in_turns(CASES, options.rounds)]
    facts = circumstances_of(began, others)
    facts.append(
        f"{threads} threads; {PREDICTIONS} predictions and {EXPLANATIONS} quick explanations of a picture of "
        f"{KIND}, one after the other, in each of {options.rounds} rounds. Medians; brackets hold the 10th "
        "and the 90th percentile."
    )
    replace_section("neighbour", "\n\n".join(["## Beside a neighbour", bullets(facts), section(found)]))
    progress("written to bench/RESULTS.md")


if __name__ == "__main__":
    main()
