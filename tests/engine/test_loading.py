"""Loading leaves nothing behind that would slow predictions down."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT = """
import asyncio, os, time
from pathlib import Path
import torch
import app.engine.model as model

def compute(path, devices, precision):
    torch.set_num_threads(3)
    (torch.ones(2_000_000) + 1).sum()  # enough for OpenMP to share it among a team
    if path.name == "broken":
        raise ValueError("no checkpoint")

model.load_model = compute

async def load(name):
    try:
        await model.load_model_apart(Path(name), [])
    except ValueError as error:
        print(error)

def tasks():
    return len(os.listdir("/proc/self/task"))

async def main():
    torch.set_num_threads(3)  # which starts threads of another kind, once
    before = tasks()
    for name in ("good", "broken", "good"):
        await load(name)
    end = time.monotonic() + 10
    while tasks() > before and time.monotonic() < end:  # they end soon after Python's own thread
        time.sleep(0.01)
    print(tasks() - before)

asyncio.run(main())
"""

LEAVE = """
import asyncio, time
from pathlib import Path
import app.engine.model as model

def slow(path, devices, precision):
    time.sleep(0.5)
    print("whole")

model.load_model = slow

async def main():
    loading = asyncio.create_task(model.load_model_apart(Path("any"), []))
    await asyncio.sleep(0.1)
    loading.cancel()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads of OpenMP are counted in /proc")
def test_no_thread_that_computed_is_left_by_loading() -> None:
    """OpenMP's among them: one team more than there are processors makes all of them sleep at every turn."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", COUNT], check=True, capture_output=True)
    assert done.stdout.decode().split("\n")[:2] == ["no checkpoint", "0"]


def test_loading_is_not_cut_short_by_the_end_of_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", LEAVE], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("whole\n", "")
