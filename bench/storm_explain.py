"""Predictions alone, and while many clients keep asking for explanations.

An explanation takes dozens of times as long as a prediction. The engine promises that a prediction waits for
one gradient step at most, so the storm may move the slowest predictions by little more than that.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.load import Plan, finish, run_apart, start
from bench.machine import Watch
from bench.outcome import OK, Percentiles
from bench.report import progress, table, verdict
from bench.scrape import wait_until_quiet
from bench.servers import HOST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.bare import Bare
    from bench.outcome import Record
    from bench.servers import Server

RATE = 2.0  # predictions a second, about a seventh of what two cores can do: they hardly meet each other
CLIENTS = 16
LEAD_SECONDS = 4.0  # for the storm to be in full swing before the first prediction
STEPS_ALLOWED = 1.5


@dataclass(frozen=True)
class ExplainStorm:
    """What became of it.

    Attributes:
        alone: latencies of predictions.
        stormy: latencies of predictions that arrived at the same times, but in the storm.
        lost: predictions in the storm that were not answered 200.
        explanations: answered in a second, meanwhile.
        step: seconds of a gradient step, averaged by the service itself during the storm.
        others: share of the machine that others took in each part.
    """

    alone: Percentiles
    stormy: Percentiles
    lost: int
    explanations: float
    step: float
    others: list[float]


def measure(server: Server, paths: Sequence[str], *, seconds: float, rounds: int) -> ExplainStorm:
    """In turns alone and in the storm, `seconds` each."""
    alone: list[Record] = []
    stormy: list[Record] = []
    others: list[float] = []
    explained, steps, step_seconds = 0, 0.0, 0.0
    for turn in range(rounds):
        light = Plan(HOST, server.port, "/predict", tuple(paths), seconds, rate=RATE, seed=turn)
        progress(f"explanations, round {turn + 1} of {rounds}: predictions alone")
        watch = Watch()
        alone += run_apart(light).records
        others.append(watch.taken().others)
        progress(f"explanations, round {turn + 1} of {rounds}: predictions in the storm")
        before, watch = wait_until_quiet(server), Watch()
        length = seconds + 2 * LEAD_SECONDS
        storm = start(Plan(HOST, server.port, "/explain", tuple(paths), length, clients=CLIENTS, drain=False))
        time.sleep(LEAD_SECONDS)
        stormy += run_apart(light).records
        explained += sum(record.status == OK for record in finish(storm).records)
        others.append(watch.taken().others)
        after = wait_until_quiet(server)
        steps += after.value("batch_seconds_count", kind="explanation")
        steps -= before.value("batch_seconds_count", kind="explanation")
        step_seconds += after.value("batch_seconds_sum", kind="explanation")
        step_seconds -= before.value("batch_seconds_sum", kind="explanation")
    return ExplainStorm(
        _latencies(alone),
        _latencies(stormy),
        sum(record.status != OK for record in stormy),
        explained / (rounds * (seconds + 2 * LEAD_SECONDS)),
        step_seconds / max(1.0, steps),
        others,
    )


def section(storm: ExplainStorm, bare: Bare) -> str:
    """In Markdown, with the verdict."""
    step = bare.full_step.median
    bar = storm.alone.p99 + STEPS_ALLOWED * step
    passed = storm.stormy.p99 <= bar and not storm.lost and storm.explanations > 0  # else it was no storm
    rows = []
    for name, some in (("alone", storm.alone), ("in the storm", storm.stormy)):
        latencies = (some.p50, some.p90, some.p99, some.most)
        rows.append((name, *(f"{1000 * latency:.0f}" for latency in latencies), str(some.count)))
    set_up = (
        f"{RATE:g} predictions a second at random times, the same in both rows. The storm is {CLIENTS} "
        f"clients that ask for one explanation after the other; {storm.explanations:.2f} a second were "
        f"answered. {storm.lost} predictions in the storm were not answered 200."
    )
    outcome = (
        f"A full gradient step takes the bare model {1000 * step:.0f} ms; the service's own, large and "
        f"small, took {1000 * storm.step:.0f} ms on average. Bar: p99 in the storm at most p99 alone + "
        f"{STEPS_ALLOWED} full steps = {1000 * bar:.0f} ms. Measured: {1000 * storm.stormy.p99:.0f} ms, "
        f"{verdict(passed)}."
    )
    figures = table(("predictions", "p50, ms", "p90, ms", "p99, ms", "longest, ms", "answers"), rows)
    return f"### Predictions in a storm of explanations\n\n{set_up}\n\n{figures}\n\n{outcome}"


def _latencies(records: Sequence[Record]) -> Percentiles:
    latencies = Percentiles.of(record.latency for record in records if record.status == OK)
    if latencies is None:
        raise RuntimeError("no prediction was answered 200")
    return latencies
