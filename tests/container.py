"""The image, started as a user starts it: ``docker compose up``, two requests, ``docker compose down``.

Run by ``make test-container``; prints what it saw, and ends with 1 and the container's log if that was wrong.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
import socket
import subprocess
import sys
import time

import httpx
from PIL import Image
from skimage import data

READY_SECONDS = 180
HEALTHY_SECONDS = 30


def main() -> int:
    """Build, start, ask, stop."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--compose", default="docker compose")
    compose = shlex.split(options.parse_args().compose)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"DEEPEMOTION_PORT": str(port)}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*compose, *words], env=environment, text=True, check=True)

    run("build")
    began = time.monotonic()
    run("up", "--detach")
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False) as client:
            wait_until_ready(client, began)
            check_answers(client)
        check_container(compose, environment)
        print_size()
    except Exception as error:  # noqa: BLE001 - whatever went wrong, the log tells more
        print(f"FAILED: {error!r}", file=sys.stderr)
        run("logs", "--tail", "50")
        return 1
    finally:
        began = time.monotonic()
        run("down")
        print(f"stopped after {time.monotonic() - began:.1f} s")
    return 0


def wait_until_ready(client: httpx.Client, began: float) -> None:
    """Poll ``/readyz`` until it answers 200."""
    while True:
        try:
            if client.get("/readyz").status_code == httpx.codes.OK:
                print(f"ready {time.monotonic() - began:.1f} s after compose up began")
                return
        except httpx.TransportError:
            pass  # not listening yet
        if time.monotonic() - began > READY_SECONDS:
            raise TimeoutError(f"not ready after {READY_SECONDS} s")
        time.sleep(0.2)


def check_answers(client: httpx.Client) -> None:
    """A photograph gets a distribution and a heat map of its own size; a text gets a 415."""
    photo = Image.fromarray(data.coffee())  # type: ignore[no-untyped-call]
    file = io.BytesIO()
    photo.save(file, "JPEG")
    answer = client.post("/predict", files={"file": file.getvalue()}).raise_for_status()
    print(json.dumps(answer.json()), answer.headers["server-timing"])
    assert abs(sum(answer.json()["distribution"].values()) - 1) < 1e-6
    answer = client.post(
        "/explain", content=file.getvalue(), headers={"content-type": "image/jpeg"}
    ).raise_for_status()
    heat_map = Image.open(io.BytesIO(answer.content))
    print("heat map", heat_map.format, heat_map.size, answer.headers["server-timing"])
    assert (heat_map.format, heat_map.size) == ("PNG", photo.size)
    refused = client.post("/predict", content=b"not a picture", headers={"content-type": "image/png"})
    assert refused.status_code == httpx.codes.UNSUPPORTED_MEDIA_TYPE, refused.text


def check_container(compose: list[str], environment: dict[str, str]) -> None:
    """It is healthy, says so without curl, is not root, and has what it needs and nothing else."""
    inside = [*compose, "exec", "-T", "deepemotion"]

    def ask(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*inside, *words], env=environment, text=True, capture_output=True, check=False)

    # The health check is the image's own, run by the engine.
    container = subprocess.run(
        [*compose, "ps", "-q", "deepemotion"], env=environment, text=True, capture_output=True, check=True
    ).stdout.strip()
    health = ["docker", "inspect", "--format", "{{.State.Health.Status}}", container]
    for _ in range(HEALTHY_SECONDS):
        status = subprocess.run(health, text=True, capture_output=True, check=True).stdout.strip()
        if status == "healthy":
            break
        time.sleep(1)
    assert status == "healthy", status
    assert ask("sh", "-c", "command -v curl || command -v wget").returncode != 0
    assert ask("id", "-u").stdout.strip() == "10001"
    assert ask("touch", "models/new").returncode != 0
    assert ask("touch", "/opt/new").returncode != 0
    process = dict(line.split(":\t", 1) for line in ask("cat", "/proc/1/status").stdout.splitlines())
    assert {process[name] for name in ("CapEff", "CapPrm", "CapBnd")} == {"0" * 16}, process
    assert process["NoNewPrivs"] == "1"
    assert process["Seccomp"] == "2"  # the engine's own filter of system calls
    assert "libjemalloc.so.2" in ask("cat", "/proc/1/maps").stdout
    text = subprocess.run(["docker", "inspect", container], text=True, capture_output=True, check=True).stdout
    (facts,) = json.loads(text)
    limits = facts["HostConfig"]
    assert limits["ReadonlyRootfs"]
    assert limits["Memory"] == limits["MemorySwap"] > 0
    assert limits["PidsLimit"] == 4096
    assert list(limits["Tmpfs"]) == ["/tmp"]  # noqa: S108 - of the container
    assert ask("sh", "-c", "echo x > /tmp/new && rm /tmp/new").returncode == 0  # and nowhere else
    (binding,) = limits["PortBindings"]["8000/tcp"]
    assert binding["HostIp"] == "127.0.0.1"
    print("healthy, not root, read-only but for /tmp, no capabilities, no new privileges, system calls")
    print("filtered, memory and processes limited, local port, no curl")


def print_size() -> None:
    """How large the image is, and its largest parts."""

    def said(*words: str) -> str:
        return subprocess.run(["docker", *words], text=True, capture_output=True, check=True).stdout

    total = int(said("image", "inspect", "--format", "{{.Size}}", "deepemotion")) / 1e6
    torch = "/opt/venv/lib/python3.11/site-packages/torch"  # first: what du has counted it leaves out later
    places = (torch, "/opt/venv", "/srv/deepemotion/models", "/usr")
    sizes = said("run", "--rm", "deepemotion", "du", "--block-size=1000000", "--summarize", *places)
    parts = ", ".join(" ".join(line.split()[::-1]) for line in sizes.splitlines())
    print(f"image {total:.0f} MB; of it, in MB: {parts}")


if __name__ == "__main__":
    sys.exit(main())
