"""What the service says of itself at ``/metrics``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from bench.servers import Server

QUIET_SECONDS = 60.0


class Scrape:
    """All samples of one moment."""

    def __init__(self, server: Server) -> None:
        text = server.fetch("/metrics")
        if text is None:
            raise RuntimeError("the service does not answer /metrics")
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text.decode())
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """Of ``deepemotion_<name>`` with these labels; 0 if nothing has been counted yet."""
        return self._samples.get((f"deepemotion_{name}", frozenset(labels.items())), 0.0)


def wait_until_quiet(server: Server) -> Scrape:
    """Until nothing waits or runs any more; returns what the service says then."""
    end = time.monotonic() + QUIET_SECONDS
    before = Scrape(server)
    while time.monotonic() < end:
        time.sleep(1.0)
        now = Scrape(server)
        waiting = sum(now.value("queue_length", kind=kind) for kind in ("prediction", "explanation"))
        if not waiting and _done(now) == _done(before):
            return now
        before = now
    raise RuntimeError(f"the service still works after {QUIET_SECONDS:.0f} s without requests")


def _done(scrape: Scrape) -> tuple[float, ...]:
    return tuple(scrape.value("batch_size_count", kind=kind) for kind in ("prediction", "explanation"))
