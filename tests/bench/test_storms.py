"""The storms' verdicts, on figures made by hand, and what they read at ``/metrics``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from bench import storm_explain, storm_leavers, storm_overload
from bench.bare import Bare
from bench.machine import MEBIBYTE
from bench.outcome import Percentiles, Summary
from bench.scrape import Scrape, wait_until_quiet
from bench.spread import Spread
from bench.storm_explain import ExplainStorm
from bench.storm_leavers import Leavers
from bench.storm_overload import Overload

if TYPE_CHECKING:
    import httpx

FAILED = "**FAILED**"
STEP = Spread.of([0.2])
BARE = Bare({1: STEP}, {"small": STEP}, {"small": STEP}, {75: STEP}, {}, threads=1, torch="2")
SUMMARY = Summary(
    seconds=30.0,
    goodput=9.5,
    accepted=Percentiles(1.0, 5.0, 9.0, 9.5, 300),
    refused=Percentiles(0.01, 0.02, 0.04, 0.05, 3000),
    statuses={200: 300, 503: 3000},
    left=110,
    left_waiting=100,
    errors={},
    lag=0.001,
    timing={},
)


def latencies(p99: float) -> Percentiles:
    return Percentiles(0.1, 0.2, p99, 2 * p99, 100)


CALM = ExplainStorm(latencies(0.4), latencies(0.69), lost=0, explanations=0.5, step=0.2, others=[0.01])


@pytest.mark.parametrize(
    ("storm", "verdict"),
    [
        (CALM, "passed"),
        (replace(CALM, stormy=latencies(0.71)), FAILED),
        (replace(CALM, lost=1), FAILED),
        (replace(CALM, explanations=0.0), FAILED),
    ],
    ids=["calm", "slow", "lost", "no-storm"],
)
def test_predictions_wait_for_a_step_and_a_half_at_most(storm: ExplainStorm, verdict: str) -> None:
    text = storm_explain.section(storm, BARE)
    assert "= 700 ms" in text
    assert text.endswith(f"{verdict}.")


SPARED = Leavers(0.5, SUMMARY, on_device=304, noticed=100, others=[0.01])


@pytest.mark.parametrize(
    ("leavers", "verdict"),
    [
        (SPARED, "passed"),
        (replace(SPARED, on_device=305), "passed"),
        (replace(SPARED, on_device=306), FAILED),
        (replace(SPARED, on_device=299), FAILED),
        (replace(SPARED, summary=replace(SUMMARY, left=10, left_waiting=0)), FAILED),
        (replace(SPARED, on_device=0, summary=replace(SUMMARY, statuses={503: 10})), FAILED),
    ],
    ids=["spared", "just", "in-vain", "miscounted", "nobody-left", "nobody-answered"],
)
def test_who_left_is_spared_and_it_was_measured(leavers: Leavers, verdict: str) -> None:
    assert storm_leavers.section(leavers).endswith(f"{verdict}.")


CARRIED = Overload(
    capacity=(10.0, 10.4),
    rate=50.0,
    summary=SUMMARY,
    every=SUMMARY,
    memory=(500 * MEBIBYTE, 600 * MEBIBYTE, 629 * MEBIBYTE),
    slope=1.0,
    generator=0.001,
    others=[0.01],
)


def but(**figures: Any) -> Overload:
    """The same, but for some of the summaries' figures."""
    other = replace(SUMMARY, **figures)
    return replace(CARRIED, summary=other, every=other)


def test_an_overload_that_lets_requests_hang_fails() -> None:
    hung = replace(CARRIED, every=replace(SUMMARY, errors={"TimeoutError": 1}))  # long after the end
    assert storm_overload.section(hung).count(FAILED) == 1


@pytest.mark.parametrize(
    ("overload", "failed"),
    [
        (CARRIED, []),
        (but(goodput=9.1), ["answers, "]),
        (but(accepted=latencies(10.1)), ["p99 of answers "]),
        (but(accepted=None), ["p99 of answers "]),
        (but(refused=latencies(0.06)), ["p99 of refusals "]),
        (but(refused=None), ["p99 of refusals "]),
        (but(statuses={200: 1, 500: 1}), ["no other answer"]),
        (but(errors={"ClosedByServer": 1}), ["no other answer"]),
        (replace(CARRIED, memory=(1, 600 * MEBIBYTE, 631 * MEBIBYTE)), ["resident memory"]),
    ],
)
def test_each_bar_of_the_overload_fails_alone(overload: Overload, failed: list[str]) -> None:
    lines = storm_overload.section(overload).splitlines()
    rows = [line for line in lines if line.endswith(("| passed |", f"| {FAILED} |"))]
    assert len(rows) == 5
    fails = [row for row in rows if FAILED in row]
    assert len(fails) == len(failed)
    assert all(row.startswith(f"| {bar}") for row, bar in zip(fails, failed, strict=True))


@pytest.mark.parametrize(("overload", "fails"), [(CARRIED, 0), (but(goodput=9.1, statuses={504: 1}), 2)])
def test_an_overload_of_slow_pictures_has_no_bar_for_refusals_and_memory(
    overload: Overload, fails: int
) -> None:
    text = storm_overload.section_of_slow(overload)
    assert text.count(FAILED) == fails
    assert text.count("| passed |") == 3 - fails
    assert "refusals" not in text


@dataclass
class Served:
    """A running service, as the benchmark asks it."""

    client: httpx.Client

    def fetch(self, path: str) -> bytes | None:
        return self.client.get(path).content


def test_all_that_the_storms_read_is_told_from_the_beginning_and_nothing_else_is_0(
    client: httpx.Client,
) -> None:
    scrape = wait_until_quiet(Served(client))
    for name in ("queue_length", "batch_size_sum", "batch_seconds_count", "batch_seconds_sum"):
        for kind in ("prediction", "explanation"):
            assert scrape.value(name, kind=kind) >= 0
    assert scrape.value("abandoned_total", kind="prediction") >= 0
    for name, kind in (("batch_size_total", "prediction"), ("batch_size_sum", "predictions")):
        with pytest.raises(RuntimeError, match=name):
            scrape.value(name, kind=kind)


def test_a_service_that_tells_nothing_is_not_measured() -> None:
    class Silent:
        def fetch(self, path: str) -> None:
            del path

    with pytest.raises(RuntimeError, match="/metrics"):
        Scrape(Silent())
