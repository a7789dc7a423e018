"""Five times as many predictions as the service can make, for a minute.

An overloaded server without bounds answers everybody late and grows until it is killed. This one should go on
answering as many as it can, in time, and refuse the others at once.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.settings import Settings
from bench.load import Plan, run_apart
from bench.machine import MEBIBYTE, Watch
from bench.outcome import EDGE_SECONDS, Percentiles, Summary, summarise
from bench.report import progress, table, verdict
from bench.scrape import wait_until_quiet
from bench.servers import HOST, MemoryLog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.servers import Server

FACTOR = 5
CLIENTS = 16  # two full batches: enough to find the capacity, too few to be refused
SETTLING = 5.0  # seconds until the queue is as full as it gets; not counted

LEAST_GOODPUT = 0.9  # of the capacity
DEADLINE_SECONDS: float = Settings.model_fields["predict_seconds"].default
REFUSAL_SECONDS = 0.05
GROWTH = 0.05  # of the memory, from the settled queue on


@dataclass(frozen=True)
class Overload:
    """What became of it.

    Attributes:
        capacity: predictions a second of a closed loop, before and after.
        rate: predictions a second that were sent.
        summary: of the answers while the queue was full.
        every: of all, however early or late: what hangs ends when the client's patience does.
        memory: resident bytes at the beginning, when the queue had settled, and at the end.
        slope: MiB a minute, fitted to the memory from then on.
        generator: processor seconds that the generator took for one request.
        others: share of the machine that others took in each part.
    """

    capacity: tuple[float, float]
    rate: float
    summary: Summary
    every: Summary
    memory: tuple[int, int, int]
    slope: float
    generator: float
    others: list[float]


def measure(server: Server, paths: Sequence[str], *, seconds: float, capacity_seconds: float) -> Overload:
    """Capacity, overload, capacity."""
    watch = Watch()
    before = capacity(server, paths, capacity_seconds)
    others = [watch.taken().others]
    rate = FACTOR * before
    progress(f"overload: {before:.1f}/s is the capacity, {rate:.0f}/s for {seconds:.0f} s")
    watch = Watch()
    with MemoryLog(server) as log:
        run = run_apart(Plan(HOST, server.port, "/predict", tuple(paths), seconds, rate=rate))
    others.append(watch.taken().others)
    wait_until_quiet(server)
    watch = Watch()
    after = capacity(server, paths, capacity_seconds)
    others.append(watch.taken().others)
    during = [(when, size) for when, size in log.samples if SETTLING <= when <= seconds]
    return Overload(
        (before, after),
        rate,
        summarise(run.records, begin=SETTLING, end=seconds - EDGE_SECONDS),
        summarise(run.records, begin=0, end=math.inf),
        (log.samples[0][1], during[0][1], during[-1][1]),
        60 * statistics.linear_regression(*zip(*during, strict=True)).slope / MEBIBYTE,
        run.cpu,
        others,
    )


def section(overload: Overload) -> str:
    """In Markdown, with the verdicts."""
    refused = overload.every.refused
    refusals = (
        f"p99 of refusals within {1000 * REFUSAL_SECONDS:.0f} ms",
        _times(refused),
        verdict(refused is not None and refused.p99 <= REFUSAL_SECONDS),
    )
    return _told(overload, "the load that can be carried", [refusals, _memory(overload)])


def section_of_slow(overload: Overload) -> str:
    """The same of pictures that take longer to decode than the network takes.

    Megabytes of each are on their way when it is refused, and their pixels are most of the memory, so neither
    has a bar.
    """
    return _told(overload, "the load that can be carried, of pictures that take long to decode", [])


def _told(overload: Overload, what: str, further: list[tuple[str, str, str]]) -> str:
    summary, every, (before, after) = overload.summary, overload.every, overload.capacity
    set_up = (
        f"A closed loop of {CLIENTS} clients found a capacity of {before:.2f} predictions a second before "
        f"and {after:.2f} after; {overload.rate:.0f} a second were sent at random times. The generator was "
        f"late by {1000 * summary.lag:.1f} ms (p99); a request took the generator "
        f"{1000 * overload.generator:.1f} ms of processor time."
    )
    share = summary.goodput / statistics.mean(overload.capacity)
    rows = [
        (
            f"answers, at least {LEAST_GOODPUT:.0%} of the mean capacity",
            f"{summary.goodput:.2f}/s, {share:.0%}",
            verdict(share >= LEAST_GOODPUT),
        ),
        (
            f"p99 of answers within the deadline, {DEADLINE_SECONDS:g} s",
            _times(every.accepted),
            verdict(every.accepted is not None and every.accepted.p99 <= DEADLINE_SECONDS),
        ),
        ("no other answer, no broken connection", _rest(every), verdict(_rest(every) == "none")),
        *further,
    ]
    return "\n\n".join((f"### {FACTOR} times {what}", set_up, table(("bar", "measured", "verdict"), rows)))


def _times(latencies: Percentiles | None) -> str:
    if latencies is None:
        return "none"
    figures = (latencies.p50, latencies.p99, latencies.most)
    return "p50 {:.0f} ms, p99 {:.0f} ms, longest {:.0f} ms".format(*(1000 * each for each in figures))


def _memory(overload: Overload) -> tuple[str, str, str]:
    start, settled, end = (size / MEBIBYTE for size in overload.memory)
    return (
        f"resident memory, at most {GROWTH:.0%} more than after {SETTLING:g} s",
        f"{start:.0f}, {settled:.0f}, {end:.0f} MiB (start, then, end), {overload.slope:+.1f} MiB/minute",
        verdict(end <= (1 + GROWTH) * settled),
    )


def capacity(server: Server, paths: Sequence[str], seconds: float, *, clients: int = CLIENTS) -> float:
    """Predictions a second of a closed loop."""
    progress(f"capacity, by {clients} clients")
    run = run_apart(Plan(HOST, server.port, "/predict", tuple(paths), seconds, clients=clients))
    return summarise(run.records, begin=seconds / 5, end=seconds - EDGE_SECONDS).goodput


def _rest(summary: Summary) -> str:
    odd = {str(status): count for status, count in summary.statuses.items() if status not in {200, 503}}
    odd |= summary.errors
    return ", ".join(f"{count} x {name}" for name, count in odd.items()) or "none"
