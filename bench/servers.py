"""The contenders, each started and stopped as a process of its own, with what it takes of the machine."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch

from app.loading import load
from bench.bare import CHECKPOINT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HOST = "127.0.0.1"
SERVE = Path(".venv/serve/bin")
PEERS = Path(".venv/peers/bin")
LOGS = Path("build/bench/logs")

READY_SECONDS = 180.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.1
OK = 200


@dataclass(frozen=True)
class Contender:
    """How to start one server.

    Attributes:
        name: in the tables.
        package: whose version the report tells.
        command: ``{port}`` and ``{threads}`` are filled in.
        ready: path that answers 200 once it takes requests.
        environment: likewise filled in, added to ours.
    """

    name: str
    package: str
    command: tuple[str, ...]
    ready: str
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        """Of the environment that it is installed in."""
        return Path(self.command[0]).parent / "python"


OURS = Contender(
    "DeepEmotion",
    "deepemotion",
    (str(SERVE / "deepemotion"), "serve", "--port", "{port}", "--threads", "{threads}"),
    "/readyz",
)
PATIENT = Contender(
    OURS.name,
    OURS.package,
    OURS.command,
    OURS.ready,
    {"DEEPEMOTION_PREDICT_SECONDS": "120"},  # as the peers' timeouts, so that nobody is refused at 64 clients
)
CONTENDERS = (
    PATIENT,
    Contender(
        "LitServe",
        "litserve",
        (str(PEERS / "python"), "-m", "bench.peers.litserve_app"),
        "/health",
        {"BENCH_PORT": "{port}"},
    ),
    Contender(
        "BentoML",
        "bentoml",
        (
            *(str(PEERS / "bentoml"), "serve", "bench.peers.bentoml_app:Emotions"),
            *("--host", HOST, "--port", "{port}"),
        ),
        "/readyz",
        {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(LOGS.parent.absolute() / "bentoml")},
    ),
    Contender(
        "mosec",
        "mosec",
        (str(PEERS / "python"), "-m", "bench.peers.mosec_app"),
        "/",
        {"MOSEC_PORT": "{port}", "MOSEC_ADDRESS": HOST, "MOSEC_TIMEOUT": "120000"},
    ),
)


class Server:
    """A contender that runs.

    Attributes:
        begun: just before its process was, by `time.monotonic`.
    """

    def __init__(self, contender: Contender, port: int, process: psutil.Popen, begun: float) -> None:
        self.contender = contender
        self.begun = begun
        self.port = port
        self._process = process

    def fetch(self, path: str) -> bytes | None:
        """The body of an answer 200 to a GET; None for any other answer, or none."""
        return self._ask("GET", path, None)

    def send(self, path: str, jpeg: bytes) -> bytes | None:
        """The body of an answer 200 to a picture; None for any other answer, or none."""
        return self._ask("POST", path, jpeg)

    def predict(self, jpeg: bytes) -> dict[str, float] | None:
        """The probabilities of the emotions; None unless the answer is 200."""
        body = self.send("/predict", jpeg)
        if body is None:
            return None
        distribution: dict[str, float] = json.loads(body)["distribution"]
        return distribution

    def processes(self) -> list[psutil.Process]:
        """All that belong to it now."""
        with suppress(psutil.NoSuchProcess):
            return [self._process, *self._process.children(recursive=True)]
        return []

    def resident(self) -> int:
        """Bytes of resident memory, summed over processes; memory that they share counts for each."""
        return self._sum("rss")

    def proportional(self) -> int:
        """Bytes of memory with every shared page divided among its sharers: what comparisons need."""
        return self._sum("pss")

    def wait_until_ready(self, jpeg: bytes) -> None:
        """Until it has answered a first prediction.

        Raises:
            RuntimeError: it ended, or took too long.
        """
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end and self._process.is_running() and self._process.poll() is None:
            if self.fetch(self.contender.ready) is not None and self.predict(jpeg) is not None:
                return
            time.sleep(POLL_SECONDS)
        raise RuntimeError(f"{self.contender.name} is not ready; see {LOGS}")

    def stop(self) -> None:
        """Ask it to end, then end what is left of it."""
        family = self.processes()
        with suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(STOP_SECONDS)
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, STOP_SECONDS)

    def _ask(self, method: str, path: str, body: bytes | None) -> bytes | None:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=30)
        headers = {"Content-Type": "image/jpeg"} if body is not None else {}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        return data if answer.status == OK else None

    def _sum(self, figure: str) -> int:
        total = 0
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                memory = process.memory_full_info() if figure == "pss" else process.memory_info()
                total += int(getattr(memory, figure))
        return total


@contextmanager
def running(
    contender: Contender, jpeg: bytes, *, threads: int, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Start a contender and wait until it answers; it is stopped at the end.

    Args:
        jpeg: of the first prediction.
        threads: of torch, in one operation.
        environment: more of it, for this run.
    """
    port = free_port()
    filled = {"port": str(port), "threads": str(threads)}
    added = {name: value.format(**filled) for name, value in contender.environment.items()}
    shared = {
        "PYTHONPATH": str(Path.cwd()),
        "OMP_NUM_THREADS": str(threads),
        "BENCH_THREADS": str(threads),
        "BENCH_CHECKPOINT": str(CHECKPOINT),
        "BENCH_SIDE": str(load(CHECKPOINT, torch.device("cpu")).card.input_size),
    }
    LOGS.mkdir(parents=True, exist_ok=True)
    with (LOGS / f"{contender.package}.log").open("ab") as log:
        begun = time.monotonic()
        process = psutil.Popen(
            [part.format(**filled) for part in contender.command],
            env={**os.environ, **shared, **added, **(environment or {})},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C reaches us alone, and we stop it
        )
    server = Server(contender, port, process, begun)
    try:
        server.wait_until_ready(jpeg)
        yield server
    finally:
        server.stop()


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port: int = free.getsockname()[1]
        return port


class MemoryLog:
    """Notes a server's resident memory twice a second while it is entered.

    Attributes:
        samples: seconds since the beginning, and bytes.
    """

    def __init__(self, server: Server) -> None:
        self.samples: list[tuple[float, int]] = []
        self._server = server
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryLog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        began = time.monotonic()
        while True:
            self.samples.append((time.monotonic() - began, self._server.resident()))
            if self._over.wait(0.5):
                return
