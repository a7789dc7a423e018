"""A storm of clients, good and bad, and what the service is like after it.

``python -m tests.faults.storm chaos --requests 10000``: random hang-ups, a third of the pictures broken, the
device's thread killed every second. ``python -m tests.faults.storm soak --requests 20000``: only well-behaved
predictions, but many. Both print what happened and fail if the service is not as it was before.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.pictures import encoded, noise, plain
from tests.tiny import write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENTS = 8
PATIENCE = 60.0
MEBIBYTE = 1024 * 1024
LEAK = 8 * MEBIBYTE
"""That the service may have grown since it was warm. A kilobyte lost with each request of a long storm is
more, an allocator's whim less. Twice as much where threads die: each new one may get an arena of its own."""


@dataclass
class Report:
    """What came of a storm.

    Attributes:
        requests: that were to be sent.
        gentle: whether all of them were good and in no hurry, so that all must be answered 200.
        answers: how many requests ended with each status, ``left`` for those that hung up, and the name of
            what broke for those that got no answer.
        memory: resident bytes of the service after a third of the requests, and at the end.
        files: open files and connections before and after.
        seconds: that it took.
        restarts: of the device's thread.
    """

    requests: int
    gentle: bool
    answers: Counter[str] = field(default_factory=Counter)
    memory: tuple[float, float] = (0.0, 0.0)
    files: tuple[float, float] = (0.0, 0.0)
    seconds: float = 0.0
    restarts: float = 0.0

    def check(self) -> None:
        """Raise an AssertionError unless every request was answered and the service is as it was before."""
        assert self.answers.total() == self.requests, self.answers
        if self.gentle:
            assert set(self.answers) == {"200"}, self.answers
        assert set(self.answers) <= {"200", "415", "422", "503", "504", "left"}, self.answers
        assert self.answers["200"] > 0
        assert self.files[1] <= self.files[0] + 2, self.files
        assert self.memory[1] <= self.memory[0] + (LEAK if self.gentle else 2 * LEAK), self.memory


def pictures() -> tuple[list[bytes], list[bytes]]:
    """Some that can be read and some that cannot."""
    good = [encoded(noise((120, 90), seed), "JPEG") for seed in range(4)] + [plain()]
    broken = [good[0][: len(good[0]) // 2], b"hello", plain()[:80], bytes(1000)]
    return good, broken


@contextmanager
def victim(checkpoint: Path, deaths_every: float) -> Iterator[str]:
    """The service in a process of its own; yields its address, and ends it by SIGTERM."""
    command = [sys.executable, "-m", "tests.faults.saboteur", str(deaths_every), str(checkpoint)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
            with httpx.Client(base_url=url, timeout=PATIENCE) as client:
                _until_ready(client)
            yield url
        finally:
            process.terminate()
            assert process.wait(PATIENCE) == 0


def storm(url: str, requests: int, *, rude: float, broken: float, explanations: float) -> Report:
    """Send so many requests from `CLIENTS` threads.

    Args:
        url: of the service.
        requests: in all.
        rude: share of clients that hang up after a random short while.
        broken: share of pictures that cannot be read.
        explanations: share of requests that ask for one.
    """
    report = Report(requests, gentle=not (rude or broken or explanations))
    good, bad = pictures()
    left = iter(range(requests))
    lock = threading.Lock()
    third = threading.Event()

    def behave(seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - nothing secret
        with httpx.Client(base_url=url, timeout=PATIENCE) as client:
            while True:
                with lock:
                    number = next(left, None)
                if number is None:
                    return
                if number > requests // 3:
                    third.set()
                data = chance.choice(bad if chance.random() < broken else good)
                path = "/explain" if chance.random() < explanations else "/predict"
                hasty = chance.random() < rude
                patience = chance.uniform(0.001, 0.33) if hasty else PATIENCE
                answer = _asked(client, path, data, patience=patience, hasty=hasty)
                with lock:
                    report.answers[answer] += 1

    def take_part(seed: int) -> None:
        try:
            behave(seed)
        finally:
            third.set()  # else nobody would hear of clients that all failed before

    with httpx.Client(base_url=url, timeout=PATIENCE) as watcher:
        files_before = measure(watcher, "process_open_fds")
        began = time.monotonic()
        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(take_part, seed) for seed in range(CLIENTS)]
            third.wait()
            memory_then = measure(watcher, "process_resident_memory_bytes")
        for each in clients:
            each.result()
        report.seconds = time.monotonic() - began
        _until_ready(watcher)
        assert watcher.post("/predict", content=good[0]).status_code == 200
        report.memory = (memory_then, measure(watcher, "process_resident_memory_bytes"))
        report.files = (files_before, _settled(watcher, files_before))
        report.restarts = measure(watcher, "deepemotion_worker_restarts_total")
    return report


def _asked(client: httpx.Client, path: str, data: bytes, *, patience: float, hasty: bool) -> str:
    """The answer's status, or ``left``, or the name of what broke; who is not hasty never just leaves."""
    try:
        return str(client.post(path, content=data, timeout=patience).status_code)
    except httpx.TransportError as error:
        return "left" if hasty and isinstance(error, httpx.TimeoutException) else type(error).__name__


def measure(client: httpx.Client, name: str) -> float:
    """One of the service's metrics, summed over its labels; one that is not there is no 0."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    found = [sample.value for family in families for sample in family.samples if sample.name == name]
    assert found, f"the service does not tell {name}"
    return sum(found)


def _until_ready(client: httpx.Client) -> None:
    end = time.monotonic() + PATIENCE
    while client.get("/readyz").status_code != httpx.codes.OK:
        assert time.monotonic() < end, "the service did not get ready"
        time.sleep(0.02)


def _settled(client: httpx.Client, files: float) -> float:
    """Open files, once connections that were just closed are gone."""
    end = time.monotonic() + 5
    while (found := measure(client, "process_open_fds")) > files and time.monotonic() < end:
        time.sleep(0.1)
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["chaos", "soak"])
    parser.add_argument("--requests", type=int, default=20_000)
    wish = parser.parse_args()
    chaos = wish.kind == "chaos"
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_checkpoint(Path(folder))
        with victim(checkpoint, deaths_every=1.0 if chaos else 0.0) as url:
            shares = (0.3, 0.3, 0.05) if chaos else (0.0, 0.0, 0.0)
            report = storm(url, wish.requests, rude=shares[0], broken=shares[1], explanations=shares[2])
    before, after = (round(value / MEBIBYTE) for value in report.memory)
    print(f"{wish.requests:,} requests in {report.seconds:.0f} s: {dict(report.answers)}")  # noqa: T201
    print(f"resident memory {before} MiB after a third, {after} MiB at the end")  # noqa: T201
    print(f"open files {report.files[0]:.0f} before, {report.files[1]:.0f} after")  # noqa: T201
    print(f"the device's thread was replaced {report.restarts:.0f} times")  # noqa: T201
    report.check()
    assert not chaos or report.restarts > 0


if __name__ == "__main__":
    main()
