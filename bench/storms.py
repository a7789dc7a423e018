"""What becomes of the service under loads that no server can carry: explanations, overload, deserters.

    python -m bench.storms            about 10 minutes
    python -m bench.storms --quick    two minutes, to see that it works; its figures mean little

The service runs with its default settings. Each storm has its own module, bar and verdict.
"""

from __future__ import annotations

import argparse
import platform
import time
from dataclasses import dataclass

from app.cpus import available_cpus
from bench import bare, machine, pictures, storm_explain, storm_leavers, storm_overload
from bench.load import Plan, run_apart
from bench.report import bullets, circumstances, progress, replace_section
from bench.servers import HOST, OURS, running
from bench.serving import PICTURES, SMALL


@dataclass(frozen=True)
class Lengths:
    """Seconds of each part.

    Attributes:
        rounds: of predictions alone and in the storm.
    """

    bare_rounds: int
    rounds: int
    predictions: float
    capacity: float
    overload: float
    leavers: float


FULL = Lengths(bare_rounds=4, rounds=3, predictions=50, capacity=20, overload=60, leavers=30)
QUICK = Lengths(bare_rounds=1, rounds=1, predictions=8, capacity=5, overload=12, leavers=6)


def measure(lengths: Lengths, threads: int) -> tuple[list[str], list[float], str]:
    """The storms' sections, the share of the machine that others took, and torch's version."""
    paths = [str(path) for path in pictures.write_all(PICTURES)[SMALL]]
    slow_paths = [str(path) for path in pictures.write_slow(PICTURES.parent / "slow")]
    progress("the bare model")
    reference = bare.measure_apart(OURS.python, PICTURES, threads=threads, rounds=lengths.bare_rounds)
    with running(OURS, (PICTURES / SMALL / "0.jpg").read_bytes(), threads=threads) as server:
        for path, clients in (("/predict", 8), ("/explain", 2)):
            run_apart(Plan(HOST, server.port, path, tuple(paths), 4.0, clients=clients))
        explain = storm_explain.measure(server, paths, seconds=lengths.predictions, rounds=lengths.rounds)
        leavers = storm_leavers.measure(
            server, paths, seconds=lengths.leavers, capacity_seconds=lengths.capacity
        )
    # A process of its own, so that its memory tells of the overload alone.
    with running(OURS, (PICTURES / SMALL / "0.jpg").read_bytes(), threads=threads) as server:
        overload = storm_overload.measure(
            server, paths, seconds=lengths.overload, capacity_seconds=lengths.capacity
        )
        slow = storm_overload.measure(
            server, slow_paths, seconds=lengths.overload, capacity_seconds=2 * lengths.capacity
        )
    sections = [
        storm_explain.section(explain, reference),
        storm_overload.section(overload),
        storm_overload.section_of_slow(slow),
        storm_leavers.section(leavers),
    ]
    return sections, [*explain.others, *overload.others, *slow.others, *leavers.others], reference.torch


def main() -> None:
    """Measure and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short run")
    parser.add_argument("--threads", type=int, default=available_cpus(), help="of torch")
    options = parser.parse_args()
    began = time.monotonic()
    sections, others, torch = measure(QUICK if options.quick else FULL, options.threads)
    known = {
        "Python": platform.python_version(),
        "torch": torch,
        OURS.name: machine.version(OURS.python, OURS.package),
    }
    facts = circumstances(known, minutes=(time.monotonic() - began) / 60, others=others)
    replace_section("storms", "\n\n".join(["## Storms", bullets(facts), *sections]))
    progress("written to bench/RESULTS.md")


if __name__ == "__main__":
    main()
