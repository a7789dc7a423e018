from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx

from app.cli.common import ExitCode
from tests.api.process import Process
from tests.api.serving import PATIENCE
from tests.api.test_connection import closed_after, problem_in, read_to_the_end
from tests.pictures import plain

if TYPE_CHECKING:
    from pathlib import Path

ASKED_INSTEAD_OF_SERVED = """
import gc
import sys

import uvicorn

from app.cli import main

uvicorn.run = lambda *_, **__: print(gc.get_freeze_count(), len(gc.get_objects()))
sys.argv = ["deepemotion", "serve"]
main()
"""


def test_what_was_imported_is_not_collected_again() -> None:
    told = subprocess.run(
        [sys.executable, "-c", ASKED_INSTEAD_OF_SERVED], check=True, capture_output=True, text=True
    ).stdout.split()
    kept, looked_at = (int(word) for word in told)
    assert kept > 100_000  # torch's
    assert looked_at < kept / 100


READ_IN_TWO_WAYS = (
    b"POST /predict HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
)


def test_the_process_has_the_limits_of_its_settings(checkpoint_path: Path) -> None:
    """What uvicorn is told by `serve` itself; other tests have a server of their own."""
    limits = {
        "DEEPEMOTION_HEAD_SECONDS": "1",
        "DEEPEMOTION_RATE_UNITS": "0.001",
        "DEEPEMOTION_RATE_BURST": "1",
        "FORWARDED_ALLOW_IPS": "*",  # uvicorn's own variable
    }
    with Process("--checkpoint", str(checkpoint_path), "--threads", "1", **limits) as served:
        url = httpx.URL(served.ready())
        forged = [
            httpx.post(
                url.join("/predict"),
                content=plain(),
                headers={"X-Forwarded-For": f"203.0.113.{number}"},
                timeout=PATIENCE,
            ).status_code
            for number in range(2)
        ]
        with socket.create_connection((url.host, url.port or 80), timeout=PATIENCE) as connection:
            connection.sendall(READ_IN_TWO_WAYS)
            head, _ = problem_in(read_to_the_end(connection))
        with socket.create_connection((url.host, url.port or 80), timeout=PATIENCE) as connection:
            waited = closed_after(connection)
    assert forged == [200, 429]
    assert head.startswith(b"HTTP/1.1 400 ")
    assert waited < PATIENCE / 2


def test_a_misspelt_setting_opens_no_service() -> None:
    with Process(DEEPEMOTION_KEY_FILE="/nowhere") as refused:
        assert refused.end() == ExitCode.USAGE
        (line,) = refused.lines
    assert "DEEPEMOTION_KEY_FILE is no setting: is DEEPEMOTION_KEYS_FILE meant?" in line
