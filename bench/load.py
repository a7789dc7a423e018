"""The load generator: many clients in one light process.

    python -m bench.load http://127.0.0.1:8000/predict --pictures 'build/bench/pictures/0.3 MP' --clients 8

A closed loop has a number of clients, each of which sends its next picture when the last one is answered; it
finds the capacity. An open loop sends at a rate, whatever the server does, as the world does; it shows what
overload does. Nothing heavy is imported here, because the generator shares the machine with the server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

import uvloop

from bench.client import ClosedByServer, Connection, NotHttp
from bench.outcome import CUT, FAILED, LEFT, REFUSED, Record, summarise

if TYPE_CHECKING:
    from collections.abc import Sequence

SECONDS_AFTER_FAILURE = 0.1
SECONDS_AFTER_REFUSAL = 1.0  # if the server does not say
LONGEST_SECONDS = 150.0  # that anybody waits for an answer
PICTURE_TYPE = "image/jpeg"


@dataclass(frozen=True)
class Plan:
    """What is sent.

    Attributes:
        host, port, path: where to.
        pictures: files, sent in turn; each is the body itself.
        seconds: for which requests are sent.
        clients: of a closed loop; 0 is an open loop.
        rate: of an open loop, requests a second.
        poisson: whether requests of an open loop come at random, rather than evenly.
        leavers: share of the requests whose client hangs up early; in a closed loop, of the clients.
        patience: seconds that such a client waits at most; at random from 0 on.
        drain: whether what is under way at the end is waited for.
        seed: of all that is random; the same seed gives the same arrivals.
    """

    host: str
    port: int
    path: str
    pictures: tuple[str, ...]
    seconds: float
    clients: int = 0
    rate: float = 0.0
    poisson: bool = True
    leavers: float = 0.0
    patience: float = 0.5
    drain: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Run:
    """What became of a plan.

    Attributes:
        records: one for each request.
        cpu: seconds of processor time that the generator took for one request.
    """

    records: list[Record]
    cpu: float


class Generator:
    """Carries out one plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._bodies = [Path(path).read_bytes() for path in plan.pictures]
        self._next = count()
        self._idle: list[Connection] = []
        self._random = random.Random(plan.seed)  # noqa: S311 - repeatable on purpose
        self._whims = random.Random(plan.seed)  # noqa: S311 - apart, so that arrivals stay what they are
        self._records: list[Record] = []
        self._began = 0.0

    async def run(self) -> Run:
        """Send, wait and tell."""
        cpu = time.process_time()
        self._began = time.perf_counter()
        await (self._closed_loop() if self._plan.clients else self._open_loop())
        for connection in self._idle:
            connection.close()
        return Run(self._records, (time.process_time() - cpu) / max(1, len(self._records)))

    async def _closed_loop(self) -> None:
        plan = self._plan
        leavers = round(plan.leavers * plan.clients)
        clients = [asyncio.create_task(self._client(leaves=n < leavers)) for n in range(plan.clients)]
        await self._finish(clients, plan.seconds)

    async def _client(self, *, leaves: bool) -> None:
        while (now := self._now()) < self._plan.seconds:
            pause = await self._request(now, leaves=leaves)
            if pause:
                await asyncio.sleep(max(0.0, min(pause, self._plan.seconds - self._now())))

    async def _open_loop(self) -> None:
        plan, due = self._plan, 0.0
        requests: list[asyncio.Task[float]] = []
        while True:
            due += self._random.expovariate(plan.rate) if plan.poisson else 1 / plan.rate
            if due >= plan.seconds:
                break
            await asyncio.sleep(max(0.0, due - self._now()))
            leaves = self._random.random() < plan.leavers
            requests.append(asyncio.create_task(self._request(due, leaves=leaves)))
        await self._finish(requests, plan.seconds)

    async def _finish(self, tasks: Sequence[asyncio.Task[Any]], end: float) -> None:
        await asyncio.sleep(max(0.0, end - self._now()))
        if not self._plan.drain:
            for task in tasks:
                task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):  # a mistake of ours; cancellation is none
                raise outcome

    async def _request(self, scheduled: float, *, leaves: bool) -> float:
        """Send one request and keep its record; returns the seconds that a polite client pauses then."""
        body = self._bodies[next(self._next) % len(self._bodies)]
        patience = self._whims.uniform(0, self._plan.patience) if leaves else LONGEST_SECONDS
        connection = self._connection()
        sent, status, error, pause = self._now(), CUT, "", 0.0
        timing: dict[str, float] = {}
        try:
            async with asyncio.timeout(patience):
                answer = await connection.exchange("POST", self._plan.path, body, PICTURE_TYPE)
            status, timing = answer.status, server_timing(answer.headers.get("server-timing", ""))
            if status in REFUSED:
                pause = float(answer.headers.get("retry-after", SECONDS_AFTER_REFUSAL))
        except TimeoutError:
            status, error = (LEFT, "") if leaves else (FAILED, "TimeoutError")
        except (OSError, ClosedByServer, NotHttp) as failure:
            status, error, pause = FAILED, type(failure).__name__, SECONDS_AFTER_FAILURE
        finally:
            record = Record(scheduled, sent, self._now(), status, connection.sent, error=error, timing=timing)
            self._records.append(record)
            if connection.usable:
                self._idle.append(connection)
            else:
                connection.close()
        return pause

    def _connection(self) -> Connection:
        """One that is idle, or a new one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:  # a server closes what has been idle for long
                return connection
        return Connection(self._plan.host, self._plan.port)

    def _now(self) -> float:
        return time.perf_counter() - self._began


def server_timing(header: str) -> dict[str, float]:
    """Milliseconds by name, from ``decode;dur=4.0, infer;dur=71.2``."""
    parts = (part.strip().partition(";dur=") for part in header.split(","))
    return {name: float(duration) for name, _, duration in parts if duration}


@dataclass(frozen=True)
class Started:
    """A plan that a process of its own carries out, and the file that it prints to: no pipe cuts it short."""

    process: subprocess.Popen[bytes]
    output: IO[bytes]


def start(plan: Plan) -> Started:
    """Begin to carry out a plan in a process of its own; `finish` waits for it."""
    command = [sys.executable, "-m", "bench.load", "--plan", json.dumps(asdict(plan))]
    output = tempfile.TemporaryFile()  # noqa: SIM115 - `finish` closes it
    return Started(subprocess.Popen(command, stdout=output), output)  # noqa: S603 - our own module


def finish(started: Started) -> Run:
    """What became of a plan that was started."""
    with started.output as output:
        if code := started.process.wait():
            raise subprocess.CalledProcessError(code, started.process.args)
        output.seek(0)
        told = json.load(output)
    return Run([Record(**record) for record in told["records"]], told["cpu"])


def run_apart(plan: Plan) -> Run:
    """Carry out a plan in a process of its own."""
    return finish(start(plan))


def main() -> None:
    """Carry out the plan of the command line and print what became of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000/predict")
    parser.add_argument("--pictures", type=Path, help="folder of JPEGs")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=0, help="of a closed loop")
    parser.add_argument("--rate", type=float, default=1.0, help="of an open loop, a second")
    parser.add_argument("--evenly", action="store_true", help="requests of an open loop come evenly")
    parser.add_argument("--leavers", type=float, default=0.0, help="share of clients that hang up")
    parser.add_argument("--patience", type=float, default=0.5, help="seconds that they wait at most")
    parser.add_argument("--plan", help="all of it as JSON; the records are printed as JSON")
    options = parser.parse_args()
    if options.plan:
        run = uvloop.run(Generator(Plan(**json.loads(options.plan))).run())
        print(json.dumps(asdict(run)))
        return
    url = urlsplit(options.url)
    plan = Plan(
        url.hostname or "127.0.0.1",
        url.port or 80,
        url.path,
        tuple(str(path) for path in sorted(options.pictures.glob("*.jpg"))),
        options.seconds,
        clients=options.clients,
        rate=options.rate,
        poisson=not options.evenly,
        leavers=options.leavers,
        patience=options.patience,
    )
    run = uvloop.run(Generator(plan).run())
    for name, value in asdict(summarise(run.records, begin=0.0, end=plan.seconds)).items():
        print(f"{name}: {value}")
    print(f"processor time of the generator for one request: {run.cpu * 1000:.2f} ms")


if __name__ == "__main__":
    main()
