"""How soon the service is ready, the memory that it takes, and what another way of getting memory changes.

    python -m bench.footprint        about 4 minutes; needs Debian's libjemalloc2

Each case is a service of its own, started anew in every round; cases take turns.
"""

from __future__ import annotations

import argparse
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from app.cpus import available_cpus
from bench import machine, pictures
from bench.model import JEMALLOC, KEEPING
from bench.report import bullets, circumstances, progress, replace_section, table, verdict
from bench.servers import OURS, Server, running
from bench.spread import Spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

KIND = "0.3 MP"
ROUNDS = 3
PREDICTIONS = 40
EXPLANATIONS = 5
READY_SECONDS = 5.0
"""From the start of the process to the answer to its first prediction, at most."""
MILLI = 1000


@dataclass(frozen=True)
class Case:
    """A way to run the service: what is added to its environment."""

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)


SHIPPED = Case("as shipped")
CASES = (
    SHIPPED,
    Case("in 8-bit integers", {"DEEPEMOTION_PRECISION": "int8"}),
    Case("jemalloc", {"LD_PRELOAD": str(JEMALLOC)}),
    Case("jemalloc that keeps pages", {"LD_PRELOAD": str(JEMALLOC), **KEEPING}),
    Case("glibc that keeps pages", {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**34)}),
)


@dataclass(frozen=True)
class Footprint:
    """Of one service, from its start to its last answer.

    Attributes:
        ready: seconds from the start of the process to the answer to its first prediction.
        at_first: bytes of resident memory then.
        at_last: the same after all requests.
        at_most: the most that there was.
        prediction: seconds for each prediction, one after the other.
        explanation: seconds for each explanation, likewise.
        faults: thousands of page faults during the explanations.
    """

    ready: float
    at_first: int
    at_last: int
    at_most: int
    prediction: list[float]
    explanation: list[float]
    faults: float


def measure(case: Case, jpeg: bytes, threads: int) -> Footprint:
    """Start the service and ask it.

    Raises:
        RuntimeError: it answers with anything but 200.
    """
    with running(OURS, jpeg, threads=threads, environment=case.environment) as server:
        ready = time.monotonic() - server.begun
        process = server.processes()[0]
        at_first = server.resident()
        prediction = [seconds(server, "/predict", jpeg) for _ in range(PREDICTIONS)]
        seconds(server, "/explain", jpeg)  # the first warms up
        before = _faults(process.pid)
        explanation = [seconds(server, "/explain", jpeg) for _ in range(EXPLANATIONS)]
        faults = (_faults(process.pid) - before) / 1000
        at_last, at_most = server.resident(), machine.memory(process.pid, "VmHWM")
        return Footprint(ready, at_first, at_last, at_most, prediction, explanation, faults)


def seconds(server: Server, path: str, jpeg: bytes) -> float:
    """That one answer takes.

    Raises:
        RuntimeError: it is anything but 200.
    """
    began = time.perf_counter()
    if server.send(path, jpeg) is None:
        raise RuntimeError(f"{path} was not answered with 200")
    return time.perf_counter() - began


def _faults(pid: int) -> int:
    """Pages that a process was given; proc(5) has the order of the fields."""
    after_name = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return int(after_name[7])


def in_turns(cases: Sequence[Case], rounds: int) -> Iterator[Case]:
    """Each case in each round, another one begins each time."""
    for turn in range(rounds):
        shift = turn % len(cases)
        for case in (*cases[shift:], *cases[:shift]):
            progress(f"round {turn + 1} of {rounds}: {case.name}")
            yield case


def circumstances_of(began: float, others: Sequence[float]) -> list[str]:
    """What a reader must know of a run of the service since `began`, a value of `time.monotonic`."""
    versions = {name: machine.version(OURS.python, name) for name in ("torch", "onnxruntime", OURS.package)}
    known = {"Python": platform.python_version(), **versions}
    return circumstances(known, minutes=(time.monotonic() - began) / 60, others=others)


def section(found: Mapping[str, Sequence[Footprint]]) -> str:
    """In Markdown, with the verdict."""
    rows = []
    for name, rounds in found.items():
        first, last, most = (
            Spread.of(getattr(each, which) / machine.MEBIBYTE for each in rounds)
            for which in ("at_first", "at_last", "at_most")
        )
        rows.append(
            (
                name,
                f"{Spread.of(each.ready for each in rounds):.1f}",
                f"{first.median:.0f} / {last.median:.0f} / {most.median:.0f}",
                f"{Spread.of_many(MILLI * s for each in rounds for s in each.prediction):.0f}",
                f"{Spread.of_many(MILLI * s for each in rounds for s in each.explanation):.0f}",
                f"{Spread.of(each.faults / EXPLANATIONS for each in rounds).median:.0f}",
            )
        )
    head = (
        *("service", "ready after, s", "memory, MiB, ready / at the end / at most"),
        *("prediction, ms", "explanation, ms", "page faults of an explanation, thousands"),
    )
    ready = Spread.of(each.ready for each in found[SHIPPED.name]).median
    bar = (
        f"as shipped, ready after at most {READY_SECONDS:g} s",
        f"{ready:.1f} s",
        verdict(ready <= READY_SECONDS),
    )
    return "\n\n".join([table(head, rows), table(("bar", "measured", "verdict"), [bar])])


def main() -> None:
    """Measure and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    if not JEMALLOC.is_file():
        parser.error(f"{JEMALLOC} is missing; Debian's package libjemalloc2 has it")
    threads, began = available_cpus(), time.monotonic()
    jpeg = pictures.make(KIND, 0)
    found: dict[str, list[Footprint]] = {case.name: [] for case in CASES}
    others = []
    for case in in_turns(CASES, options.rounds):
        watch = machine.Watch()
        found[case.name].append(measure(case, jpeg, threads))
        others.append(watch.taken().others)
    facts = circumstances_of(began, others)
    facts.append(
        f"{threads} threads; {PREDICTIONS} predictions, then {EXPLANATIONS} quick explanations of a picture "
        f"of {KIND}, one after the other, in each of {options.rounds} rounds. Medians; brackets hold the "
        "least and the greatest start, and the 10th and the 90th percentile of the answers."
    )
    replace_section("footprint", "\n\n".join(["## Start and memory", bullets(facts), section(found)]))
    progress("written to bench/RESULTS.md")


if __name__ == "__main__":
    main()
