"""The container's clock jumps a day ahead and two days back, under load: nothing comes late, early or wrong.

Run by ``make test-faults``; prints what it saw, and ends with 1 if that was wrong. The image has to be there:
``docker compose build``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx

from tests.container import wait_until_ready
from tests.faults.containers import Load

IMAGE = "deepemotion-clock"
NAME = "deepemotion-clock-drill"
JUMPS = {"+1d": timedelta(days=1), "-1d": timedelta(days=-1), "+0": timedelta()}
"""One after the other, as libfaketime writes them, and where the clock then is."""
SECONDS = 6.0
SLACK = timedelta(minutes=1)  # the service writes the date down now and then, and less often when it is busy


def main() -> int:
    """Start, move the clock, look, stop."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--port", default="18126")
    port = options.parse_args().port
    here = Path(__file__).parent
    build = ["docker", "build", "--quiet", "--network", "host", "-t", IMAGE, "-"]
    subprocess.run(build, input=(here / "clock.Dockerfile").read_bytes(), check=True)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # the container's user reads it
        clock = Path(folder, "now")
        clock.write_text("+0\n", "ascii")
        run = ["docker", "run", "--rm", "--detach", "--name", NAME, "--read-only", "--cap-drop", "ALL"]
        mounts = ["--tmpfs", "/tmp", "--volume", f"{folder}:/clock:ro"]  # noqa: S108 - of the container
        began = time.monotonic()
        subprocess.run(
            [*run, *mounts, "--publish", f"127.0.0.1:{port}:8000", IMAGE],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        try:
            drill(f"http://127.0.0.1:{port}", clock, began)
        finally:
            subprocess.run(["docker", "stop", "--time", "40", NAME], check=True, stdout=subprocess.DEVNULL)
    return 0


def drill(url: str, clock: Path, began: float) -> None:
    """Clients ask while the clock jumps; the service's own dates tell that it did."""
    with httpx.Client(base_url=url, timeout=120) as client:
        wait_until_ready(client, began)
        load = Load(url)
        with load.running():
            for written, offset in JUMPS.items():
                clock.write_text(f"{written}\n", "ascii")
                time.sleep(SECONDS)
                asked = datetime.now(UTC)
                date = parsedate_to_datetime(client.get("/healthz").headers["date"])
                answered = datetime.now(UTC)
                assert asked - SLACK < date - offset < answered + SLACK, f"the clock did not jump: {date}"
    counted = Counter(what for _, what in load.outcomes)
    print(f"clock {', '.join(JUMPS)}: {dict(counted)}")
    assert set(counted) == {"right"}


if __name__ == "__main__":
    sys.exit(main())
