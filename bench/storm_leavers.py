"""Half of the clients hang up before their answer comes.

The work of a client that has left should never reach the device. The service counts every picture that does,
so whatever it counts beyond its answers was done for nobody.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.load import Plan, run_apart
from bench.machine import Watch
from bench.outcome import OK, summarise
from bench.report import progress, table, verdict
from bench.scrape import wait_until_quiet
from bench.servers import HOST
from bench.storm_overload import capacity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.outcome import Summary
    from bench.servers import Server

CLIENTS = 32
PATIENCE = 0.25
"""At most, of the time that an answer takes when all wait: so nearly all who leave do so in the queue."""
LEAST_SPARED = 0.95


@dataclass(frozen=True)
class Leavers:
    """What became of it.

    Attributes:
        patience: seconds that those who leave wait at most.
        summary: of all requests.
        on_device: pictures that reached the device.
        noticed: clients that the service saw leave.
        others: share of the machine that others took.
    """

    patience: float
    summary: Summary
    on_device: int
    noticed: int
    others: list[float]

    @property
    def in_vain(self) -> int:
        """Pictures that reached the device, but whose answer nobody got."""
        return max(0, self.on_device - self.summary.statuses.get(OK, 0))

    @property
    def spared(self) -> float:
        """Share of the abandoned requests that never reached the device."""
        return 1 - self.in_vain / max(1, self.summary.left_waiting)

    @property
    def measured(self) -> bool:
        """Whether anybody left, and the device's count can be true: what was answered has been on it."""
        return self.summary.left_waiting > 0 and self.on_device >= self.summary.statuses.get(OK, 0) > 0


def measure(server: Server, paths: Sequence[str], *, seconds: float, capacity_seconds: float) -> Leavers:
    """A closed loop in which nobody leaves, then one in which who leaves comes back with another picture."""
    patience = PATIENCE * CLIENTS / capacity(server, paths, capacity_seconds, clients=CLIENTS)
    progress(f"leavers: half of {CLIENTS} clients, within {patience:.2f} s, for {seconds:.0f} s")
    before, watch = wait_until_quiet(server), Watch()
    plan = Plan(
        HOST,
        server.port,
        "/predict",
        tuple(paths),
        seconds,
        clients=CLIENTS,
        leavers=0.5,
        patience=patience,
    )
    run = run_apart(plan)
    others = [watch.taken().others]
    after = wait_until_quiet(server)

    def rise(name: str) -> int:
        return round(after.value(name, kind="prediction") - before.value(name, kind="prediction"))

    summary = summarise(run.records, begin=0.0, end=math.inf)
    return Leavers(patience, summary, rise("batch_size_sum"), rise("abandoned_total"), others)


def section(leavers: Leavers) -> str:
    """In Markdown, with the verdict."""
    summary = leavers.summary
    rows = [
        ("answered 200", f"{summary.statuses.get(OK, 0)}"),
        ("hung up, the whole picture sent", f"{summary.left_waiting}"),
        ("hung up before that", f"{summary.left - summary.left_waiting}"),
        ("seen leaving by the service", f"{leavers.noticed}"),
        ("pictures put on the device", f"{leavers.on_device}"),
        ("of them for nobody", f"{leavers.in_vain}"),
    ]
    set_up = (
        f"{CLIENTS} clients; half of them leave at a random time within {leavers.patience:.2f} s of sending, "
        f"{PATIENCE:g} of what an answer takes when all wait, and come back at once with another picture."
    )
    passed = leavers.measured and leavers.spared >= LEAST_SPARED
    outcome = (
        f"Bar: at least {LEAST_SPARED:.0%} of the abandoned pictures never reach the device. Measured: "
        f"{leavers.spared:.1%}, {verdict(passed)}."
    )
    counts = table(("requests", "count"), rows)
    return f"### Half of the clients hang up\n\n{set_up}\n\n{counts}\n\n{outcome}"
