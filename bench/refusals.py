"""What the service itself costs: processor time for a request that it refuses, and for one that it answers.

    python -m bench.refusals                        two minutes
    python -m bench.refusals --against CHECKOUT     the same of another checkout, by turns

The checkpoint is a tiny one. For the refusals it is slow, and so many clients ask at once that all places are
taken. Processor time is counted and not time, so a busy machine tells the same; and only that of the event
loop's thread, which parses, refuses and answers, since decoding and the network have threads of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from bench import machine, pictures
from bench.client import ClosedByServer, Connection
from bench.report import bullets, circumstances, progress, replace_section, table
from bench.servers import HOST, OURS, SERVE, Server, running
from bench.spread import Spread
from tests.tiny import busywork_of, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

KIND = "0.3 MP"
CLIENTS = 16
PLACES = 4  # of which the clients hold all, and the other clients are refused
SLOW_SECONDS = 0.5  # that the slow network takes for a picture
MILLI = 1000

# With -P, PYTHONPATH alone says which checkout is run.
SERVICE = replace(OURS, command=(str(SERVE / "python"), "-P", "-m", "app", *OURS.command[1:]))


@dataclass(frozen=True)
class Case:
    """One kind of request.

    Attributes:
        status: of the answer that is meant; others are few, and share their cost among these.
        slow: whether the network is.
        environment: of the service.
    """

    name: str
    status: HTTPStatus
    slow: bool
    environment: dict[str, str]


CASES = (
    Case(
        "refused, 503",
        HTTPStatus.SERVICE_UNAVAILABLE,
        slow=True,
        environment={
            "DEEPEMOTION_MAX_PREDICTIONS": str(PLACES),
            "DEEPEMOTION_MAX_BATCH": "1",
            "DEEPEMOTION_PREDICT_SECONDS": "60",
        },
    ),
    Case("answered, 200", HTTPStatus.OK, slow=False, environment={}),
)


@dataclass(frozen=True)
class Cost:
    """Of one round.

    Attributes:
        loop: processor milliseconds of the event loop's thread for each answer that is meant.
        whole: the same of the whole process.
        share: of all answers that are as meant.
    """

    loop: float
    whole: float
    share: float


def measure(server: Server, jpeg: bytes, case: Case, requests: int) -> Cost:
    """Ask so often, after a tenth of it for warmth."""
    asyncio.run(_ask(server.port, jpeg, requests // 10))
    before = _seconds(server)
    statuses = asyncio.run(_ask(server.port, jpeg, requests))
    loop, whole = (now - then for now, then in zip(_seconds(server), before, strict=True))
    meant = statuses.count(case.status)
    return Cost(MILLI * loop / meant, MILLI * whole / meant, meant / len(statuses))


async def _ask(port: int, jpeg: bytes, requests: int) -> list[int]:
    """The statuses of so many requests; clients that still wait then are not waited for."""
    statuses: list[int] = []
    enough = asyncio.Event()

    async def client() -> None:
        connection = Connection(HOST, port)
        try:
            while True:
                try:
                    answer = await connection.exchange("POST", "/predict", jpeg, "image/jpeg")
                    statuses.append(answer.status)
                except ClosedByServer:  # as it may between two requests
                    connection.close()
                if len(statuses) >= requests:
                    enough.set()
                if not connection.usable:
                    connection = Connection(HOST, port)
        finally:
            connection.close()

    clients = [asyncio.create_task(client()) for _ in range(CLIENTS)]
    ended = asyncio.create_task(enough.wait())
    await asyncio.wait([ended, *clients], return_when=asyncio.FIRST_COMPLETED)
    for task in (ended, *clients):
        task.cancel()
    for outcome in await asyncio.gather(*clients, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
    return statuses


def _seconds(server: Server) -> tuple[float, float]:
    """Processor seconds of the event loop's thread, which is the process's first, and of all."""
    process = server.processes()[0]
    loop = next(thread for thread in process.threads() if thread.id == process.pid)
    return loop.user_time + loop.system_time, sum(process.cpu_times()[:2])


def _section(checkouts: Sequence[Path], costs: dict[tuple[Path, str], list[Cost]]) -> str:
    rows = []
    for case in CASES:
        for checkout in checkouts:
            rounds = costs[checkout, case.name]
            own = machine.commit(checkout) if len(checkouts) > 1 else ""
            name = f"{case.name}{f', {own}' if own else ''}"
            loop = Spread.of(cost.loop for cost in rounds)
            whole = Spread.of(cost.whole for cost in rounds)
            share = statistics.mean(cost.share for cost in rounds)
            all_threads = "" if case.slow else f"{whole:.2f}"  # the slow network would be most of it
            rows.append((name, f"{loop:.2f}", all_threads, f"{share:.1%}"))
    return table(("a prediction", "event loop, ms", "all threads, ms", "answers that were such"), rows)


def main() -> None:
    """Measure and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--requests", type=int, default=2000, help="of each kind in a round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    checkouts = [*([options.against.resolve()] if options.against else []), Path.cwd()]
    costs: dict[tuple[Path, str], list[Cost]] = {}
    jpeg, others, began = pictures.make(KIND, 0), [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = {}
        for slow in {case.slow for case in CASES}:
            (place := Path(folder, str(slow))).mkdir()
            checkpoints[slow] = write_checkpoint(place, busywork=busywork_of(SLOW_SECONDS) if slow else 0)
        for turn in range(options.rounds):
            for case in CASES:
                for checkout in checkouts if turn % 2 == 0 else reversed(checkouts):
                    environment = {
                        **case.environment,
                        "DEEPEMOTION_CHECKPOINT": str(checkpoints[case.slow]),
                        "PYTHONPATH": str(checkout),
                    }
                    with running(SERVICE, jpeg, threads=1, environment=environment) as server:
                        watch = machine.Watch()
                        cost = measure(server, jpeg, case, options.requests)
                        others.append(watch.taken().others)
                    costs.setdefault((checkout, case.name), []).append(cost)
                    progress(f"{machine.commit(checkout)}: {case.name}: {cost}")
    known = {"Python": platform.python_version(), OURS.name: machine.version(OURS.python, OURS.package)}
    facts = circumstances(known, minutes=(time.monotonic() - began) / 60, others=others)
    facts.append(
        f"{options.requests} pictures of {len(jpeg) / 1e6:.1f} MB from {CLIENTS} clients in each of "
        f"{options.rounds} rounds; medians, least and greatest in brackets."
    )
    title = "## What a request costs the service"
    replace_section("refusals", "\n\n".join([title, bullets(facts), _section(checkouts, costs)]))
    progress("written to bench/RESULTS.md")


if __name__ == "__main__":
    main()
