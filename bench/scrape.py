"""What the service says of itself at ``/metrics``."""

from __future__ import annotations

import time
from typing import Protocol

from prometheus_client.parser import text_string_to_metric_families

QUIET_SECONDS = 60.0


class Tells(Protocol):
    """A running service."""

    def fetch(self, path: str) -> bytes | None:
        """What it answers, or None if it does not."""


class Scrape:
    """All samples of one moment."""

    def __init__(self, server: Tells) -> None:
        text = server.fetch("/metrics")
        if text is None:
            raise RuntimeError("the service does not answer /metrics")
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text.decode())
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """Of ``deepemotion_<name>`` with these labels.

        Raises:
            RuntimeError: the service does not tell it. All that is asked here begins at 0, and a changed
                name must not be taken for what never happened.
        """
        found = self._samples.get((f"deepemotion_{name}", frozenset(labels.items())))
        if found is None:
            raise RuntimeError(f"/metrics does not tell deepemotion_{name} of {labels}")
        return found


def wait_until_quiet(server: Tells) -> Scrape:
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
