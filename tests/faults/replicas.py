"""Two replicas behind nginx, under load: one is stopped, one is killed, and both are given a new checkpoint.

Run by ``make test-faults``; prints what it saw, and ends with 1 if a client saw more fail than it may. The
image has to be there: ``docker compose build``.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import httpx

from app.checkpoint import listed_sha256
from tests.container import wait_until_ready
from tests.faults.containers import facts_of, options_of, photo

if TYPE_CHECKING:
    from collections.abc import Iterator

COMPOSE_FILE = "deploy/nginx/docker-compose.yml"
NEW = "models/fi.pt"
CLIENTS = 4
HEALTHY_SECONDS = 180
QUIET, GONE = 5.0, 15.0
"""Seconds of load around a fault, and without one of the replicas."""


class Answer(NamedTuple):
    """What a client got: the checkpoint's digest and its distribution, or what went wrong."""

    at: float
    checkpoint: str
    distribution: dict[str, float]
    failure: str


class Clients:
    """So many clients that ask the same again and again, and never try twice."""

    def __init__(self, url: str) -> None:
        self.answers: list[Answer] = []
        self._url = url
        self._picture = photo()
        self._over = threading.Event()

    def _ask(self) -> tuple[str, dict[str, float], str]:
        try:
            answer = httpx.post(f"{self._url}/predict", content=self._picture, timeout=60)
        except httpx.TransportError as error:
            return "", {}, type(error).__name__
        if answer.status_code != httpx.codes.OK:
            return "", {}, str(answer.status_code)
        said = answer.json()
        return said["model"]["sha256"], said["distribution"], ""

    def _keep_asking(self) -> None:
        while not self._over.is_set():
            said = self._ask()
            self.answers.append(Answer(time.monotonic(), *said))

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask while the block runs, and a little before and after."""
        threads = [threading.Thread(target=self._keep_asking) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            time.sleep(QUIET)
            yield
            time.sleep(QUIET)
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def checkpoints(self) -> list[str]:
        """Who answered, in the order of their first answers; each said the same every time."""
        first: dict[str, dict[str, float]] = {}
        for each in sorted(self.answers):
            if each.failure:
                continue
            known = first.setdefault(each.checkpoint, each.distribution)
            assert known.keys() == each.distribution.keys()
            assert all(abs(known[name] - value) < 1e-3 for name, value in each.distribution.items()), each
        return list(first)

    def counted(self) -> dict[str, int]:
        """How many were answered, and how many failed of what."""
        return dict(Counter(each.failure or "right" for each in self.answers))

    def failed(self) -> int:
        """How many were not answered."""
        return sum(bool(each.failure) for each in self.answers)


class Site:
    """The replicas and nginx, as compose runs them."""

    def __init__(self, compose: str, port: str) -> None:
        self._compose = [*shlex.split(compose), "-f", COMPOSE_FILE]
        self._environment = os.environ | {"DEEPEMOTION_PORT": port, "DEEPEMOTION_MEMORY": "2g"}
        self.url = f"http://127.0.0.1:{port}"

    def run(self, *words: str, **environment: str) -> str:
        return subprocess.run(
            [*self._compose, *words],
            env=self._environment | environment,
            text=True,
            stdout=subprocess.PIPE,
            check=True,
        ).stdout

    def container(self, replica: str) -> str:
        return self.run("ps", "-q", replica).strip()

    def wait_until_healthy(self, replica: str) -> None:
        """Wait for the image's own health check."""
        end = time.monotonic() + HEALTHY_SECONDS
        container = self.container(replica)
        while facts_of(container)["State"]["Health"]["Status"] != "healthy":
            assert time.monotonic() < end, f"{replica} is not healthy"
            time.sleep(0.5)


def stopped(site: Site) -> None:
    """One of two is told to stop, and stays away: what it had is answered, the other answers the rest."""
    clients = Clients(site.url)
    with clients.asking():
        site.run("stop", "green")
        time.sleep(GONE)
        site.run("start", "green")
        site.wait_until_healthy("green")
    print(f"one of two stopped for {GONE:.0f} s and started again: {clients.counted()}")
    assert len(clients.checkpoints()) == 1
    assert clients.failed() == 0


def killed(site: Site) -> None:
    """One of two is killed with whatever it had: that is asked of the other, and clients see one answer."""
    clients = Clients(site.url)
    with clients.asking():
        os.kill(int(facts_of(site.container("green"))["State"]["Pid"]), signal.SIGKILL)
        time.sleep(1)
        site.wait_until_healthy("green")
    print(f"one of two killed, of {CLIENTS} requests in flight: {clients.counted()}")
    assert len(clients.checkpoints()) == 1
    assert clients.failed() == 0


def upgraded(site: Site) -> None:
    """Both are replaced, one after the other, by containers with another checkpoint: nothing fails."""
    clients = Clients(site.url)
    began = time.monotonic()
    with clients.asking():
        for replica in ("blue", "green"):
            site.run("up", "--detach", "--no-deps", "--no-build", replica, DEEPEMOTION_CHECKPOINT=NEW)
            site.wait_until_healthy(replica)
        done = time.monotonic()
    old, new = clients.checkpoints()
    after = [each.checkpoint for each in clients.answers if each.at > done + QUIET / 2]
    print(
        f"both replaced in {done - began:.0f} s: {clients.counted()}, "
        f"of them {sum(each.checkpoint == old for each in clients.answers)} by the old checkpoint"
    )
    assert clients.failed() == 0
    assert new == listed_sha256(Path(NEW))
    assert set(after) == {new}


DRILLS = {"stopped": stopped, "killed": killed, "upgraded": upgraded}


def main() -> int:
    """Start, break, look, stop."""
    chosen = options_of(__doc__, DRILLS, port="18125")
    site = Site(chosen.compose, chosen.port)
    began = time.monotonic()
    site.run("build", "nginx")
    site.run("up", "--detach", "--no-build")
    try:
        with httpx.Client(base_url=site.url, timeout=120) as client:
            wait_until_ready(client, began)
        for replica in ("blue", "green"):
            site.wait_until_healthy(replica)
        for name in chosen.drills or DRILLS:
            DRILLS[name](site)
    except BaseException:
        sys.stdout.write(site.run("logs", "--tail", "30"))
        raise
    finally:
        site.run("down")
    return 0


if __name__ == "__main__":
    sys.exit(main())
