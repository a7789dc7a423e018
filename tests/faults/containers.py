"""The container under load while it is killed, bombed, its disk full, its network slow or lossy.

Run by ``make test-faults``; prints what it saw, and ends with 1 if an answer was wrong or the service did not
come back. The image has to be there: ``docker compose build``.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
from PIL import Image
from skimage import data

from tests.container import wait_until_ready
from tests.faults.slow_line import SlowLine
from tests.pictures import png_bomb
from tests.security.test_bombs import real_bomb

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MEMORY = "2g"
BOMBS = 60
BEFORE, AFTER = 5.0, 20.0
"""Seconds of load before the kill, and after the service has come back."""
LINE = ("tbf", "rate", "512kbit", "burst", "4kb", "limit", "16kb")
"""The kernel's token bucket: a line with room for some ten packets, which loses the others. netem would make
each late too, and is not in every kernel."""
LOSSY = 20.0
"""Seconds of load over such a line."""


def photo() -> bytes:
    """A photograph, as JPEG."""
    file = io.BytesIO()
    Image.fromarray(data.coffee()).save(file, "JPEG")  # type: ignore[no-untyped-call]
    return file.getvalue()


class Load:
    """Clients that ask the same again and again, and what each was answered."""

    def __init__(self, url: str, clients: int = 4) -> None:
        self.picture = photo()
        self.outcomes: list[tuple[float, str]] = []
        self.url = url
        self._over = threading.Event()
        self._right = self._ask()
        self._threads = [threading.Thread(target=self._keep_asking) for _ in range(clients)]

    def _ask(self) -> dict[str, float]:
        answer = httpx.post(f"{self.url}/predict", content=self.picture, timeout=60).raise_for_status()
        distribution: dict[str, float] = answer.json()["distribution"]
        return distribution

    def _keep_asking(self) -> None:
        while not self._over.is_set():
            try:
                answer = self._ask()
                near = all(abs(answer[name] - value) < 1e-3 for name, value in self._right.items())
                outcome = "right" if near else "WRONG"
            except httpx.HTTPStatusError as error:
                outcome = str(error.response.status_code)
            except httpx.TransportError as error:
                outcome = type(error).__name__
                time.sleep(0.05)
            self.outcomes.append((time.monotonic(), outcome))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ask while the block runs."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join()

    def first_right_after(self, moment: float) -> float | None:
        """Seconds to the first right answer after a moment."""
        return next(
            (at - moment for at, what in sorted(self.outcomes) if at > moment and what == "right"), None
        )


def facts_of(container: str) -> dict[str, Any]:
    """What the engine knows of the container."""
    text = subprocess.run(["docker", "inspect", container], text=True, capture_output=True, check=True).stdout
    (facts,) = json.loads(text)
    return dict(facts)


def kill_under_load(url: str, container: str) -> None:
    """SIGKILL to the service's process: the restart policy brings it back, and no answer was wrong."""
    load = Load(url)
    with load.running():
        time.sleep(BEFORE)
        killed = time.monotonic()
        os.kill(int(facts_of(container)["State"]["Pid"]), signal.SIGKILL)
        time.sleep(1)  # what was answered already may still arrive
        while load.first_right_after(killed + 1) is None:
            assert time.monotonic() < killed + 180, "the service did not come back"
            time.sleep(0.1)
        recovered = 1 + (load.first_right_after(killed + 1) or 0)
        time.sleep(AFTER)
    counted = Counter(what for _, what in load.outcomes)
    print(f"killed under load: right again after {recovered:.1f} s; {dict(counted)}")
    assert counted["right"] > 0
    assert counted["WRONG"] == 0
    assert facts_of(container)["RestartCount"] == 1


def bombs(url: str, container: str) -> None:
    """Pictures as large as may be and larger, and JSON like them, all at once: nobody is killed."""
    largest = io.BytesIO()
    Image.new("RGBA", (7000, 7000), (200, 30, 30, 128)).save(largest, "PNG")
    infer = f"/v2/models/{httpx.get(f'{url}/v1/model').json()['card']['name']}/infer"
    sent = [
        ("/predict", largest.getvalue()),
        ("/predict", real_bomb(16_384)),
        ("/predict", png_bomb()),
        (infer, b'{"inputs":[' + b"{}," * 6_000_000 + b"{}]}"),
    ]
    before = facts_of(container)["RestartCount"]

    def send(number: int) -> int:
        path, data = sent[number % len(sent)]
        return httpx.post(f"{url}{path}", content=data, timeout=300).status_code

    with ThreadPoolExecutor(20) as pool:
        counted = Counter(pool.map(send, range(BOMBS)))
    facts = facts_of(container)
    peak = subprocess.run(
        ["docker", "exec", container, "sh", "-c", "cat /proc/1/status"],
        text=True,
        capture_output=True,
        check=True,
    ).stdout
    high = next(int(line.split()[1]) // 1024 for line in peak.splitlines() if line.startswith("VmHWM"))
    print(f"bombs: {BOMBS} at 20 a time within {MEMORY}: {dict(counted)}; most memory {high} MiB")
    assert set(counted) <= {200, 400, 413, 503, 504}
    assert (
        counted[400] + counted[413] > BOMBS // 3
    )  # the rest waited behind the largest until their time was over
    assert (facts["RestartCount"], facts["State"]["OOMKilled"]) == (before, False)


def full_disk(url: str, container: str) -> None:
    """No byte of the one place that can be written is left: nothing is missed."""
    fill = "dd if=/dev/zero of=/tmp/full bs=1M 2>/dev/null; echo x > /tmp/more || echo full"
    said = subprocess.run(
        ["docker", "exec", container, "sh", "-c", fill], text=True, capture_output=True, check=True
    )
    assert said.stdout.strip() == "full", said
    load = Load(url)
    with load.running():
        time.sleep(BEFORE)
    explained = httpx.post(f"{url}/explain", content=load.picture, timeout=120).status_code
    counted = Counter(what for _, what in load.outcomes)
    print(f"disk full: {dict(counted)}, an explanation {explained}")
    assert set(counted) == {"right"}
    assert explained == httpx.codes.OK
    subprocess.run(["docker", "exec", container, "rm", "/tmp/full"], check=True)  # noqa: S108 - of the container


def slow_network(url: str, container: str) -> None:
    """Over a slow line everything takes longer and nothing fails, but who needs too long is cut off."""
    del container
    near = Load(url, clients=2)
    port = httpx.URL(url).port or 80
    with (
        SlowLine(port, bytes_per_second=32_000, delay=0.15) as slow,
        SlowLine(port, bytes_per_second=1_000, delay=0.15) as slowest,
    ):
        far = Load(slow.url, clients=4)
        with near.running(), far.running():
            began = time.monotonic()
            cut_off = httpx.post(f"{slowest.url}/predict", content=near.picture, timeout=120)
            took = time.monotonic() - began
    counted = [Counter(what for _, what in each.outcomes) for each in (near, far)]
    print(
        f"slow line: at 32 kB/s {dict(counted[1])}, beside it {dict(counted[0])}; "
        f"at 1 kB/s {cut_off.status_code} after {took:.1f} s"
    )
    assert set(counted[0]) == set(counted[1]) == {"right"}
    assert cut_off.status_code == httpx.codes.REQUEST_TIMEOUT


def lossy_network(url: str, container: str) -> None:
    """The kernel lets little through each way and drops the rest: all is answered, and right."""
    del url  # which leads through the engine's proxy, and that would buffer
    facts = facts_of(container)
    (network,) = facts["NetworkSettings"]["Networks"].values()
    load = Load(f"http://{network['IPAddress']}:8000")
    told = ["docker", "exec", container, "cat", "/sys/class/net/eth0/iflink"]
    link = int(subprocess.run(told, text=True, capture_output=True, check=True).stdout)
    ends = (
        ["tc"],  # what goes in passes the machine's end of the line, and what comes out the container's
        ["nsenter", "--target", str(facts["State"]["Pid"]), "--net", "tc"],
    )
    devices = (socket.if_indextoname(link), "eth0")
    dropped = []
    for tc, device in zip(ends, devices, strict=True):
        subprocess.run([*tc, "qdisc", "replace", "dev", device, "root", *LINE], check=True)
    try:
        with load.running():
            time.sleep(LOSSY)
        explained = httpx.post(f"{load.url}/explain", content=load.picture, timeout=120)
    finally:
        for tc, device in zip(ends, devices, strict=True):
            shown = [*tc, "-s", "-j", "qdisc", "show", "dev", device, "root"]
            (line,) = json.loads(subprocess.run(shown, capture_output=True, check=True).stdout)
            dropped.append(line["drops"])
            subprocess.run([*tc, "qdisc", "del", "dev", device, "root"], check=True)
    counted = Counter(what for _, what in load.outcomes)
    print(
        f"lossy line ({' '.join(LINE)}): {dict(counted)}, an explanation {explained.status_code}; "
        f"packets lost {dropped[0]} in, {dropped[1]} out"
    )
    assert set(counted) == {"right"}
    assert explained.status_code == httpx.codes.OK
    assert min(dropped) > 0


DRILLS = {
    "kill": kill_under_load,
    "disk": full_disk,
    "slow": slow_network,
    "lossy": lossy_network,
    "bombs": bombs,
}


def options_of(description: str | None, drills: Iterable[str], *, port: str) -> argparse.Namespace:
    """Which drills, by which compose, on which port."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("drills", nargs="*", help=f"of {', '.join(drills)}; all by default")
    options.add_argument("--compose", default="docker compose")
    options.add_argument("--port", default=port)
    return options.parse_args()


def main() -> int:
    """Start, break, look, stop."""
    chosen = options_of(__doc__, DRILLS, port="18124")
    compose = shlex.split(chosen.compose)
    environment = os.environ | {"DEEPEMOTION_PORT": chosen.port, "DEEPEMOTION_MEMORY": MEMORY}
    url = f"http://127.0.0.1:{chosen.port}"
    began = time.monotonic()
    subprocess.run([*compose, "up", "--detach", "--no-build"], env=environment, check=True)
    try:
        with httpx.Client(base_url=url, timeout=120) as client:
            wait_until_ready(client, began)
        container = subprocess.run(
            [*compose, "ps", "-q", "deepemotion"], env=environment, text=True, capture_output=True, check=True
        ).stdout.strip()
        for name in chosen.drills or DRILLS:
            DRILLS[name](url, container)
    finally:
        subprocess.run([*compose, "down"], env=environment, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
