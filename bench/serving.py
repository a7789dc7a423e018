"""The service beside its peers and beside the bare model: throughput at saturation, latency, overhead.

    python -m bench.serving            about 25 minutes
    python -m bench.serving --quick    a few minutes, to see that it works; its figures mean little

The contenders take turns, several rounds of them, in another order each time, so that the machine's moods hit
all alike. Each is started anew in each round, warmed up, sent the same bytes, and stopped.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from app.cpus import available_cpus
from bench import bare, machine, pictures, serving_tables
from bench.load import Plan, run_apart
from bench.machine import Watch, processor_seconds
from bench.outcome import EDGE_SECONDS, OK, Summary, summarise
from bench.report import circumstances, progress, replace_section
from bench.servers import CONTENDERS, HOST, Contender, Server, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PICTURES = Path("build/bench/pictures")
SAME = 1e-4
"""Largest difference of a probability between two servers of one checkpoint."""


@dataclass(frozen=True)
class Cell:
    """One measurement: a closed loop of clients with one kind of picture.

    Attributes:
        seconds: of load, of which the last `EDGE_SECONDS` are not counted.
        settling: seconds at the beginning that are not counted either: the first answer to each client comes
            sooner than those of a queue that is always full.
    """

    kind: str
    clients: int
    seconds: float
    settling: float


SMALL, LARGE = pictures.KINDS
CELLS = (
    Cell(SMALL, 1, 8, 1),
    Cell(LARGE, 1, 8, 1),
    Cell(SMALL, 8, 10, 2),
    Cell(LARGE, 8, 12, 3),
    Cell(SMALL, 64, 15, 6),
    Cell(LARGE, 64, 28, 12),
)
"""Few clients first: BentoML waits for a batch as long as its last requests waited, which after a crowd is
much too long for a single client."""
QUICK_CELLS = (
    Cell(SMALL, 1, 4, 1),
    Cell(LARGE, 1, 4, 1),
    Cell(SMALL, 8, 5, 2),
    Cell(LARGE, 8, 6, 2),
)
ROUNDS = 3
WARM_UP = ((16, 4.0), (4, 2.0), (1, 2.0))
"""Clients and seconds. A burst, because BentoML learns from its first batches how long to wait."""


@dataclass(frozen=True)
class Result:
    """Of one cell in one round.

    Attributes:
        summary: of the answers.
        cpu: processor seconds that the server took for one answer.
        memory: bytes, shared pages divided among their sharers.
        generator: processor seconds that the generator took for one request.
        others: share of the machine that others took meanwhile.
    """

    summary: Summary
    cpu: float
    memory: int
    generator: float
    others: float


@dataclass
class Results:
    """Of the whole run; one entry of each list for each round."""

    bare: list[bare.Bare] = field(default_factory=list)
    cells: defaultdict[tuple[str, str, int], list[Result]] = field(default_factory=lambda: defaultdict(list))
    """By contender, kind of picture and number of clients."""


def measure(rounds: int, cells: Sequence[Cell], contenders: Sequence[Contender], *, threads: int) -> Results:
    """All rounds."""
    paths = pictures.write_all(PICTURES)
    results = Results()
    for turn in range(rounds):
        progress(f"round {turn + 1} of {rounds}: the bare model")
        reference = bare.measure_apart(contenders[0].python, PICTURES, threads=threads, rounds=2)
        results.bare.append(reference)
        for contender in _rotated(contenders, turn):
            first = paths[SMALL][0].read_bytes()
            with running(contender, first, threads=threads) as server:
                _check_answers(server, reference, paths)
                _warm_up(server, paths)
                for cell in cells:
                    result = _measure_cell(server, cell, paths[cell.kind])
                    results.cells[contender.name, cell.kind, cell.clients].append(result)
                    progress(_line(contender, cell, result))
    return results


def _rotated(contenders: Sequence[Contender], turn: int) -> Iterator[Contender]:
    shift = turn % len(contenders)
    yield from contenders[shift:]
    yield from contenders[:shift]


def _check_answers(server: Server, reference: bare.Bare, paths: Mapping[str, Sequence[Path]]) -> None:
    """A server that answers differently does another work, and is not compared.

    Raises:
        RuntimeError: it does.
    """
    for kind, expected in reference.answers.items():
        answer = server.predict(paths[kind][0].read_bytes()) or {}
        if answer.keys() != expected.keys() or any(abs(answer[e] - expected[e]) > SAME for e in expected):
            raise RuntimeError(f"{server.contender.name} answers {answer}, but the model {expected}")


def _warm_up(server: Server, paths: Mapping[str, Sequence[Path]]) -> None:
    for clients, seconds in WARM_UP:
        run_apart(_plan(server, Cell(SMALL, clients, seconds, 0), paths[SMALL]))


def _plan(server: Server, cell: Cell, paths: Sequence[Path]) -> Plan:
    return Plan(
        HOST,
        server.port,
        "/predict",
        tuple(str(path) for path in paths),
        cell.seconds,
        clients=cell.clients,
    )


def _measure_cell(server: Server, cell: Cell, paths: Sequence[Path]) -> Result:
    watch, before = Watch(), processor_seconds(server.processes())
    run = run_apart(_plan(server, cell, paths))
    cpu, taken = processor_seconds(server.processes()) - before, watch.taken()
    summary = summarise(run.records, begin=cell.settling, end=cell.seconds - EDGE_SECONDS)
    answers = sum(record.status == OK for record in run.records)
    return Result(summary, cpu / max(1, answers), server.proportional(), run.cpu, taken.others)


def _line(contender: Contender, cell: Cell, result: Result) -> str:
    summary = result.summary
    median = f"{1000 * summary.accepted.p50:.0f} ms" if summary.accepted else "no answer"
    return (
        f"  {contender.name:12} {cell.kind:>6} x {cell.clients:2}: {summary.goodput:5.2f}/s, {median}, "
        f"{summary.statuses} {summary.errors or ''}, others {100 * result.others:.0f} %"
    )


def main() -> None:
    """Measure and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of everything, in another order each")
    parser.add_argument("--only", nargs="+", choices=[each.name for each in CONTENDERS])
    parser.add_argument("--threads", type=int, default=available_cpus(), help="of torch, for everybody")
    options = parser.parse_args()
    contenders = [each for each in CONTENDERS if not options.only or each.name in options.only]
    rounds, cells = (1, QUICK_CELLS) if options.quick else (options.rounds, CELLS)
    began = time.monotonic()
    results = measure(rounds, cells, contenders, threads=options.threads)
    known = {"Python": platform.python_version(), "torch": results.bare[0].torch}
    for contender in contenders:
        known[contender.name] = machine.version(contender.python, contender.package)
    facts = circumstances(
        known,
        minutes=(time.monotonic() - began) / 60,
        others=[result.others for cell in results.cells.values() for result in cell],
    )
    replace_section("serving", serving_tables.section(results, facts))
    progress("written to bench/RESULTS.md")


if __name__ == "__main__":
    main()
