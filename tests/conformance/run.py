"""Asks a running service whatever its schema allows, and what not: ``python -m tests.conformance.run``.

The service has a tiny checkpoint, and all its limits. Whatever is answered must be documented: the status,
the headers, the media type and the shape of the body; and nothing invalid may be taken for valid.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pydantic import SecretStr

from app.settings import Settings
from tests.api.serving import service
from tests.tiny import write_checkpoint

CHOICES = Path(__file__).with_name("schemathesis.toml")
KEY = "the key of conformance"


def ask(settings: Settings, *options: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run the service and schemathesis against it.

    Returns:
        schemathesis' end, with its report in ``stdout``, and what the service counted of its answers.
    """
    program = Path(sys.executable).with_name("schemathesis")
    with service(settings.model_copy(update={"admin_key": SecretStr(KEY)})) as client:
        command = [str(program), "--config-file", str(CHOICES), "run", f"{client.base_url}/openapi.json"]
        done = subprocess.run(
            [*command, *options],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"DEEPEMOTION_ADMIN_KEY": KEY, "PYTHONPATH": str(CHOICES.parents[2])},
        )
        counted = client.get("/metrics").text.splitlines()
    return done, [line for line in counted if line.startswith("deepemotion_requests_total{")]


def main() -> int:
    """Ask for as long as is wished, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, help="to ask the same again")
    options = parser.parse_args()
    limits = ["--max-time", str(options.seconds), "--max-examples", "1000"]
    if options.seed is not None:
        limits += ["--seed", str(options.seed)]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_checkpoint(Path(folder), judges=True)
        report, counted = ask(Settings(checkpoint=checkpoint, device="cpu", threads=1), *limits)
    print(report.stdout, *counted, sep="\n")
    return report.returncode


if __name__ == "__main__":
    sys.exit(main())
