"""What is made of records, on some made by hand."""

from __future__ import annotations

import math

import pytest

from bench.outcome import CUT, FAILED, LEFT, Percentiles, Record, summarise
from bench.spread import Spread, percentile


def answered(finished: float, *, scheduled: float | None = None, status: int = 200) -> Record:
    """Sent when it should be, and answered; after a tenth of a second if nothing else is said."""
    due = finished - 0.1 if scheduled is None else scheduled
    return Record(due, due, finished, status, body_sent=True)


def test_a_server_that_stalls_cannot_hide_behind_a_generator_that_waits_for_it() -> None:
    """Ten requests a second, and none sent nor answered for five: each counts from when it should be sent."""
    stalled = [
        Record(number / 10, max(number / 10, 5.0), max(number / 10, 5.0) + 0.01, 200, body_sent=True)
        for number in range(100)
    ]
    summary = summarise(stalled, begin=0.0, end=math.inf)
    assert summary.accepted is not None
    assert summary.accepted.p50 == pytest.approx(0.01)  # half of them were due after it had gone on
    assert summary.accepted.p90 == pytest.approx(4.01, abs=0.1)
    assert summary.accepted.most == pytest.approx(5.01)
    assert summary.lag == pytest.approx(4.9, abs=0.1)


def test_nothing_is_lost_at_the_edges_of_a_window_when_answers_come_in_lumps() -> None:
    """Eight answers at once, every second: eight a second, wherever the window begins and ends."""
    lumps = [answered(float(second)) for second in range(20) for _ in range(8)]
    for begin in (1.0, 1.3, 1.9):
        for end in (15.0, 15.01, 15.9):
            assert summarise(lumps, begin=begin, end=end).goodput == pytest.approx(8.0), (begin, end)


def test_without_an_answer_after_the_window_its_own_end_counts() -> None:
    lumps = [answered(float(second)) for second in range(1, 11) for _ in range(8)]
    assert summarise(lumps, begin=0.5, end=11.0).goodput == pytest.approx(8.0)
    assert summarise(lumps, begin=11.0, end=20.0).goodput == 0.0


def test_who_left_and_what_was_cut_are_no_answers() -> None:
    records = [
        answered(1.0),
        answered(1.1, status=503, scheduled=1.05),
        answered(1.2, status=429, scheduled=1.05),
        answered(1.3, status=415),
        Record(1.0, 1.0, 1.4, LEFT, body_sent=True),
        Record(1.0, 1.0, 1.4, LEFT, body_sent=False),
        Record(1.0, 1.0, 1.5, FAILED, body_sent=True, error="ClosedByServer"),
        Record(0.0, 9.0, 9.5, CUT, body_sent=True),
    ]
    summary = summarise(records, begin=0.0, end=10.0)
    assert summary.statuses == {200: 1, 503: 1, 429: 1, 415: 1}
    assert (summary.left, summary.left_waiting) == (2, 1)
    assert summary.errors == {"ClosedByServer": 1}
    assert summary.accepted is not None
    assert summary.refused is not None
    assert (summary.accepted.count, summary.refused.count) == (1, 2)
    assert summary.refused.most == pytest.approx(0.15)
    assert summary.lag == 0.0  # what was cut was late, but counts nowhere


def test_what_ended_outside_of_the_window_is_not_counted() -> None:
    records = [answered(at) for at in (0.9, 1.0, 1.9, 2.0)]
    summary = summarise(records, begin=1.0, end=2.0)
    assert summary.statuses == {200: 2}
    assert summary.seconds == 1.0


def test_the_server_s_own_times_are_medians_of_what_was_answered_200() -> None:
    def timed(status: int, milliseconds: float) -> Record:
        return Record(0.0, 0.0, 1.0, status, body_sent=True, timing={"infer": milliseconds})

    records = [timed(200, 10.0), timed(200, 30.0), timed(200, 20.0), timed(503, 1000.0)]
    assert summarise(records, begin=0.0, end=2.0).timing == {"infer": 20.0}


def test_nothing_at_all() -> None:
    summary = summarise([], begin=0.0, end=1.0)
    assert (summary.accepted, summary.refused, summary.goodput, summary.lag) == (None, None, 0.0, 0.0)


def test_percentiles_are_values_that_were_measured() -> None:
    assert Percentiles.of([]) is None
    found = Percentiles.of(float(value) for value in reversed(range(1, 1001)))
    assert found == Percentiles(p50=500.0, p90=900.0, p99=990.0, most=1000.0, count=1000)
    assert Percentiles.of([7.0]) == Percentiles(7.0, 7.0, 7.0, 7.0, 1)


@pytest.mark.parametrize(
    ("percent", "value"), [(1, 1.0), (20, 1.0), (20.1, 2.0), (50, 3.0), (99, 5.0), (100, 5.0)]
)
def test_the_nearest_rank(percent: float, value: float) -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0, 5.0], percent) == value


def test_a_few_values_are_told_with_all_of_their_range_and_many_without_the_outer_tenths() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert Spread.of(values) == Spread(50.5, 1.0, 100.0, 100)
    assert Spread.of_many(values) == Spread(50.5, 10.0, 90.0, 100)
    assert Spread.of(values).scaled(0.5) == Spread(25.25, 0.5, 50.0, 100)
    assert f"{Spread.of([1.0, 2.0, 4.0]):.1f}" == "2.0 (1.0 to 4.0)"
    assert f"{Spread.of([2.0]):.0f}" == "2"
