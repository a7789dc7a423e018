"""What the service counts and times, for Prometheus. One registry for each service, none for the process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

if TYPE_CHECKING:
    from collections.abc import Callable

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # a series more for each counter, that nobody reads

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
TURNED_AWAY = ("too_many", "slow_head", "slow_reading", "not_http")
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256, 512, 1024)


class Metrics:
    """Every metric of one service, all named ``deepemotion_...``, and those of its process.

    The label ``kind`` is ``prediction`` or ``explanation``; in ``batch_size`` and ``batch_seconds`` an
    explanation's entry is one gradient step.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._watched: dict[str, Gauge] = {}
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = self._counter(
            "requests", "answered requests; 499 is a client that left", "route", "method", "status"
        )
        self.request_seconds = self._histogram(
            "request_seconds", "from a request's head to the end of its answer", _SECONDS, "route"
        )
        self.decode_seconds = self._histogram("decode_seconds", "decoding and shrinking one upload", _SECONDS)
        self.queue_seconds = self._histogram(
            "queue_seconds", "from acceptance to the device", _SECONDS, "kind"
        )
        self.batch_size = self._histogram("batch_size", "pictures put on the device together", _SIZES, "kind")
        self.batch_seconds = self._histogram(
            "batch_seconds", "one batch of predictions, or one gradient step", _SECONDS, "kind"
        )
        self.turned_away = self._counter(
            "turned_away", f"connections closed by the service; reason: {', '.join(TURNED_AWAY)}", "reason"
        )
        self.shed = self._counter(
            "shed", "requests refused: no room, or no hope to be answered in time", "kind"
        )
        self.expired = self._counter("expired", "accepted requests whose deadline passed", "kind")
        self.abandoned = self._counter("abandoned", "accepted requests whose client left", "kind")
        self.failures = self._counter("failures", "pictures that the network failed on", "kind")
        self.restarts = self._counter(
            "worker_restarts", "threads of a device that were replaced; reason: died or hung", "reason"
        )
        self.model = Gauge(
            "deepemotion_model_info",
            "the checkpoint that answers; always 1",
            ("name", "version", "sha256"),
            registry=self.registry,
        )
        self.reloads = self._counter(
            "reloads", "new checkpoints asked for; result: loaded or refused", "result"
        )
        self._begin_at_zero()

    def computed(self, kind: str, size: int, seconds: float) -> None:
        """Count one batch of predictions, or one gradient step, of so many pictures."""
        self.batch_size.labels(kind).observe(size)
        self.batch_seconds.labels(kind).observe(seconds)

    def watch(self, name: str, description: str, value: Callable[[], float], **labels: str) -> None:
        """Have a gauge read its value when asked; again with other labels adds to the same gauge."""
        known = self._watched.get(name)
        if known is None:
            known = Gauge(f"deepemotion_{name}", description, tuple(labels), registry=self.registry)
            self._watched[name] = known
        (known.labels(**labels) if labels else known).set_function(value)

    def set_model(self, name: str, version: str, sha256: str) -> None:
        """Say which checkpoint answers from now on."""
        self.model.clear()
        self.model.labels(name, version, sha256).set(1)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return prometheus_client.generate_latest(self.registry)

    def _begin_at_zero(self) -> None:
        """A series that begins with its first event has no rise that Prometheus could see."""
        for counter in (self.shed, self.expired, self.abandoned, self.failures):
            for kind in ("prediction", "explanation"):
                counter.labels(kind)
        for timed in (self.queue_seconds, self.batch_size, self.batch_seconds):
            for kind in ("prediction", "explanation"):
                timed.labels(kind)
        for reason in TURNED_AWAY:
            self.turned_away.labels(reason)
        for reason in ("died", "hung"):
            self.restarts.labels(reason)
        for result in ("loaded", "refused"):
            self.reloads.labels(result)

    def _counter(self, name: str, description: str, *labels: str) -> Counter:
        return Counter(f"deepemotion_{name}", description, labels, registry=self.registry)

    def _histogram(self, name: str, description: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"deepemotion_{name}", description, labels, buckets=buckets, registry=self.registry)
