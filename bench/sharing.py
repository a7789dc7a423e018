"""How decoding and the network share the processors: ``python -m bench.sharing``.

On a CPU both want the same cores. Each way of sharing runs in a process of its own, so that none keeps the
threads of another; the ways take turns, round by round. Predictions are computed as the service computes
them, by ONNX Runtime where a graph lies beside the checkpoint: its threads wait in their own way, which
``OMP_WAIT_POLICY`` does not change.
"""

from __future__ import annotations

import argparse
import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from app.checkpoint import Checkpoint, probabilities
from app.cpus import available_cpus
from app.loading import load
from app.picture import decode
from bench.pictures import KINDS, write_all
from bench.spread import Spread

CHECKPOINT = Path("models/emotion6.pt")
BATCH = 8
WARM_UP = (1, 1, 1, BATCH)


@dataclass(frozen=True)
class Way:
    """A way of sharing.

    Attributes:
        name: as the table shows it.
        compute: threads of one operation of the network, as a share of the usable processors.
        decoders: threads that decode beside it; 0 decodes each batch before it is computed.
    """

    name: str
    compute: float
    decoders: int


WAYS = (
    Way("one after the other", 1.0, 0),
    Way("one decoding thread beside all compute threads", 1.0, 1),
    Way("two decoding threads beside all compute threads", 1.0, 2),
    Way("one decoding thread beside half the compute threads", 0.5, 1),
)


def seconds_a_picture(way: Way, files: list[bytes], pictures: int) -> float:
    """From bytes to probabilities, in this process."""
    torch.set_num_threads(max(1, round(way.compute * available_cpus())))
    checkpoint = load(CHECKPOINT, torch.device("cpu"))
    side = checkpoint.card.input_size
    for size in WARM_UP:
        probabilities(checkpoint, np.zeros((size, 3, side, side), np.uint8))
    began = time.monotonic()
    if way.decoders:
        _beside(checkpoint, way.decoders, files, pictures)
    else:
        _in_turn(checkpoint, files, pictures)
    return (time.monotonic() - began) / pictures


def _in_turn(checkpoint: Checkpoint, files: list[bytes], pictures: int) -> None:
    side = checkpoint.card.input_size
    for first in range(0, pictures, BATCH):
        batch = [files[index % len(files)] for index in range(first, first + BATCH)]
        probabilities(checkpoint, np.stack([decode(data, side=side).as_input(side) for data in batch]))


def _beside(checkpoint: Checkpoint, decoders: int, files: list[bytes], pictures: int) -> None:
    side = checkpoint.card.input_size
    line: queue.Queue[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]] = queue.Queue(2 * BATCH)
    todo = iter(range(pictures))
    lock = threading.Lock()

    def keep_decoding() -> None:
        while True:
            with lock:
                index = next(todo, None)
            if index is None:
                return
            line.put(decode(files[index % len(files)], side=side).as_input(side))

    threads = [threading.Thread(target=keep_decoding) for _ in range(decoders)]
    for thread in threads:
        thread.start()
    done = 0
    while done < pictures:
        batch = [line.get()]
        while len(batch) < BATCH and not line.empty():
            batch.append(line.get())
        probabilities(checkpoint, np.stack(batch))
        done += len(batch)
    for thread in threads:
        thread.join()


def measure(rounds: int, pictures: int) -> dict[str, dict[str, Spread]]:
    """Seconds a picture of each way, by kind of picture."""
    found: dict[str, dict[str, list[float]]] = {kind: {way.name: [] for way in WAYS} for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        write_all(Path(folder))
        for number in range(rounds):
            for kind in KINDS:
                for index, way in enumerate(WAYS):
                    command = [sys.executable, "-m", "bench.sharing", "--one", str(index)]
                    command += ["--folder", str(Path(folder, kind)), "--pictures", str(pictures)]
                    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)  # noqa: S603 - ours
                    found[kind][way.name].append(json.loads(done.stdout))
            print(f"round {number + 1} of {rounds} is done", file=sys.stderr, flush=True)
    return {kind: {name: Spread.of(values) for name, values in ways.items()} for kind, ways in found.items()}


def main() -> None:
    """Print the table, or, with ``--one``, the seconds of one way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=48, help="in each measurement; a multiple of 8")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    wish = parser.parse_args()
    if wish.one is not None:
        files = [path.read_bytes() for path in sorted(wish.folder.glob("*.jpg"))]
        print(json.dumps(seconds_a_picture(WAYS[wish.one], files, wish.pictures)))
        return
    print("| milliseconds a picture, median (range) | " + " | ".join(KINDS) + " |")
    print("|---|" + "---|" * len(KINDS))
    found = measure(wish.rounds, wish.pictures)
    for way in WAYS:
        cells = [f"{found[kind][way.name].scaled(1000):.0f}" for kind in KINDS]
        print(f"| {way.name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
