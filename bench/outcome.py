"""What became of each request, and what all of them say together."""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.spread import percentile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

OK = 200
REFUSED = (429, 503)
FAILED = 0
"""In place of a status: no answer, because the connection broke."""
LEFT = -1
"""In place of a status: the client hung up on purpose."""
CUT = -2
"""In place of a status: still under way when the run ended; counted nowhere."""
EDGE_SECONDS = 1.5


@dataclass(frozen=True)
class Record:
    """One request. Times are in seconds from the start of the run.

    Attributes:
        scheduled: when it was to be sent; with a fixed rate, latency counts from here, so that a slow server
            cannot hide by keeping the generator from sending (coordinated omission).
        sent: when its first byte left.
        finished: when the last byte of the answer was there, or when it ended otherwise.
        status: of HTTP, or `FAILED`, `LEFT` or `CUT`.
        body_sent: whether all of it had left when it ended.
        error: what broke, if it failed.
        timing: milliseconds by name, from the answer's Server-Timing.
    """

    scheduled: float
    sent: float
    finished: float
    status: int
    body_sent: bool
    error: str = ""
    timing: dict[str, float] = field(default_factory=dict)

    @property
    def latency(self) -> float:
        """Seconds from when it was to be sent until the answer."""
        return self.finished - self.scheduled


@dataclass(frozen=True)
class Percentiles:
    """Of latencies, in seconds."""

    p50: float
    p90: float
    p99: float
    most: float
    count: int

    @classmethod
    def of(cls, latencies: Iterable[float]) -> Percentiles | None:
        """None if there are none."""
        known = sorted(latencies)
        if not known:
            return None
        p50, p90, p99 = (percentile(known, percent) for percent in (50, 90, 99))
        return cls(p50, p90, p99, known[-1], len(known))


@dataclass(frozen=True)
class Summary:
    """Of the requests that ended within a window of time.

    Attributes:
        seconds: length of the window.
        goodput: answers with status 200 in a second. Answers come in lumps, a batch at a time, and the edges
            of the window would cut some; so this is counted from the first answer after its beginning to the
            first one within `EDGE_SECONDS` after its end, if there is any. Keep the load up until then.
        accepted: latencies of those answers.
        refused: latencies of the answers 429 and 503.
        statuses: how often each status was answered.
        left: requests whose client hung up on purpose.
        left_waiting: those of them whose body had been sent as a whole.
        errors: how often each error broke a connection.
        lag: 99th percentile of the time between when a request was to be sent and when it was, in seconds;
            if it is not small, the generator was the bottleneck.
        timing: medians of Server-Timing, in milliseconds.
    """

    seconds: float
    goodput: float
    accepted: Percentiles | None
    refused: Percentiles | None
    statuses: dict[int, int]
    left: int
    left_waiting: int
    errors: dict[str, int]
    lag: float
    timing: dict[str, float]


def summarise(records: Sequence[Record], *, begin: float, end: float) -> Summary:
    """Of the requests that ended from `begin` until `end`, in seconds from the start of the run."""
    ended = [each for each in records if begin <= each.finished < end and each.status != CUT]
    good = [each for each in ended if each.status == OK]
    left = [each for each in ended if each.status == LEFT]
    lags = sorted(each.sent - each.scheduled for each in ended)
    timing: defaultdict[str, list[float]] = defaultdict(list)
    for each in good:
        for name, milliseconds in each.timing.items():
            timing[name].append(milliseconds)
    return Summary(
        seconds=end - begin,
        goodput=_goodput(sorted(each.finished for each in records if each.status == OK), begin, end),
        accepted=Percentiles.of(each.latency for each in good),
        refused=Percentiles.of(each.latency for each in ended if each.status in REFUSED),
        statuses=dict(Counter(each.status for each in ended if each.status > 0)),
        left=len(left),
        left_waiting=sum(each.body_sent for each in left),
        errors=dict(Counter(each.error for each in ended if each.status == FAILED)),
        lag=percentile(lags, 99) if lags else 0.0,
        timing={name: statistics.median(values) for name, values in timing.items()},
    )


def _goodput(finished: Sequence[float], begin: float, end: float) -> float:
    """Answers a second, from their times in ascending order."""
    first = bisect_left(finished, begin)
    last = bisect_left(finished, end)
    if first == last:
        return 0.0
    until = finished[last] if last < len(finished) and finished[last] < end + EDGE_SECONDS else end
    return (last - first) / (until - finished[first])
