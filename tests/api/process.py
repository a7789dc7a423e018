"""The service as an operator runs it: a process, its log and its signals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import Self

import httpx

from tests.api.serving import PATIENCE, wait_until


class Process:
    """``python -m app serve`` in a process of its own, and its log; killed where the block of a `with` ends.

    A test that fails must leave neither a process behind nor a thread that waits for its log for ever.
    """

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve", "--port", "0", *arguments],
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # nothing may be there but the log
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.end()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as log:
            self.lines.extend(iter(log.readline, ""))

    def log(self) -> list[dict[str, object]]:
        """The log so far; every line of it must be JSON."""
        return [json.loads(line) for line in self.lines.copy()]

    def url(self) -> str:
        """Where it listens, once it does."""
        found: list[str] = []

        def listening() -> bool:
            assert self.process.poll() is None, self.lines
            words = [word for line in self.log() for word in str(line["message"]).split()]
            found.extend(word for word in words if word.startswith("http://"))
            return bool(found)

        wait_until(listening)
        return found[0]

    def ready(self) -> str:
        """Where it listens, once it answers."""
        url = self.url()
        with httpx.Client(base_url=url, timeout=PATIENCE) as client:
            wait_until(lambda: client.get("/readyz").is_success)
        return url

    def end(self) -> int:
        """The exit status, and the whole log from then on."""
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert not self._reader.is_alive(), "somebody else holds the log open"
        return status
