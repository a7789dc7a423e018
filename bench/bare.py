"""The bare model in a loop: what the machine gives when nothing runs but the checkpoint and its decoder.

    python -m bench.bare FOLDER      one subfolder of JPEGs for each kind of picture

It has a process to itself, so that nothing else of the benchmark shares its threads. Every other figure of
``bench/RESULTS.md`` is compared with these.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from app.checkpoint import Checkpoint, probabilities
from app.explain.dream import DEFAULTS, Dream, take_step
from app.loading import load
from app.picture import decode
from bench.spread import Spread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CHECKPOINT = Path("models/emotion6.pt")
ROUNDS = 5
"""Everything is measured in turn, so that a slow moment of the machine does not hit one thing alone."""
BATCHES = {1: 8, 2: 6, 4: 5, 8: 4, 16: 2}
"""Sizes, and how often each is repeated in a round."""
REPEATS = 8
"""Of everything that has one picture."""

What = tuple[str, Any]
"""What is measured: ``batch`` and its size, ``decode`` or ``predict`` and the kind of picture, ``step`` and
the side of the dream."""


@dataclass(frozen=True)
class Bare:
    """All in seconds.

    Attributes:
        picture: one picture's share of a forward pass, by the size of the batch.
        decode: from a JPEG's bytes to the network's input, by kind of picture.
        predict: decoding and a forward pass of one picture, one after the other, by kind of picture.
        step: one gradient step of one dream, by the side of its picture in pixels.
        answers: emotions' probabilities for the first picture of each kind, to compare servers' answers with.
        threads: of torch, in one operation.
        torch: its version.
    """

    picture: dict[int, Spread]
    decode: dict[str, Spread]
    predict: dict[str, Spread]
    step: dict[int, Spread]
    answers: dict[str, dict[str, float]]
    threads: int
    torch: str

    @property
    def best_batch(self) -> int:
        """The size of the batch that serves most pictures a second."""
        return min(self.picture, key=lambda size: self.picture[size].median)

    @property
    def full_step(self) -> Spread:
        """A gradient step at the full size of the input, the longest that a prediction may have to wait."""
        return self.step[max(self.step)]


def measure(pictures: Mapping[str, Sequence[bytes]], *, threads: int, rounds: int = ROUNDS) -> Bare:
    """Measure in this process; the first round warms up and is not kept.

    Args:
        pictures: JPEGs of each kind.
        threads: of torch, in one operation.
        rounds: that are kept.
    """
    torch.set_num_threads(threads)
    checkpoint = load(CHECKPOINT, torch.device("cpu"))
    tasks = _tasks(checkpoint, pictures)
    jpeg = next(iter(pictures.values()))[0]
    kept: defaultdict[What, list[float]] = defaultdict(list)
    for turn in range(rounds + 1):
        for what, seconds in [*_time(tasks, turn), *_time_steps(checkpoint, jpeg)]:
            if turn:
                kept[what].append(seconds)

    def of(group: str) -> dict[Any, Spread]:
        return {key: Spread.of_many(values) for (name, key), values in kept.items() if name == group}

    return Bare(
        picture={size: spread.scaled(1 / size) for size, spread in of("batch").items()},
        decode=of("decode"),
        predict=of("predict"),
        step=of("step"),
        answers={kind: _answer(checkpoint, jpegs[0]) for kind, jpegs in pictures.items()},
        threads=threads,
        torch=torch.__version__,
    )


def measure_apart(python: Path, folder: Path, *, threads: int, rounds: int = ROUNDS) -> Bare:
    """`measure` in a process of its own.

    Args:
        python: of the environment whose torch is measured.
        folder: of the pictures, one subfolder for each kind.
    """
    command = [str(python), "-m", "bench.bare", str(folder), "--threads", str(threads)]
    command += ["--rounds", str(rounds), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)  # noqa: S603 - our own module
    told: dict[str, Any] = json.loads(done.stdout)
    for name, key in (("picture", int), ("decode", str), ("predict", str), ("step", int)):
        told[name] = {key(of_what): Spread(**spread) for of_what, spread in told[name].items()}
    return Bare(**told)


def _tasks(
    checkpoint: Checkpoint, pictures: Mapping[str, Sequence[bytes]]
) -> dict[What, Callable[[int], object]]:
    """Each takes a number that chooses the picture."""
    side = checkpoint.card.input_size
    random = np.random.default_rng(0)
    tasks: dict[What, Callable[[int], object]] = {}

    def add_batch(size: int) -> None:
        batch = random.integers(0, 256, (size, 3, side, side), dtype=np.uint8)
        tasks["batch", size] = lambda _: probabilities(checkpoint, batch)

    def add_kind(kind: str, jpegs: Sequence[bytes]) -> None:
        tasks["decode", kind] = lambda n: decode(jpegs[n % len(jpegs)], side=side).as_input(side)
        tasks["predict", kind] = lambda n: probabilities(
            checkpoint, decode(jpegs[n % len(jpegs)], side=side).as_input(side)[None]
        )

    for size in BATCHES:
        add_batch(size)
    for kind, jpegs in pictures.items():
        add_kind(kind, jpegs)
    return tasks


def _time(tasks: Mapping[What, Callable[[int], object]], turn: int) -> list[tuple[What, float]]:
    times: list[tuple[What, float]] = []
    for what, task in tasks.items():
        for repeat in range(BATCHES.get(what[1], REPEATS)):
            began = time.perf_counter()
            task(turn * REPEATS + repeat)
            times.append((what, time.perf_counter() - began))
    return times


def _time_steps(checkpoint: Checkpoint, jpeg: bytes) -> list[tuple[What, float]]:
    """Every step of one dream."""
    times: list[tuple[What, float]] = []
    side = checkpoint.card.input_size
    dream = Dream(decode(jpeg, side=side).as_input(side), 0, checkpoint, DEFAULTS)
    while not dream.done:
        side, began = dream.side, time.perf_counter()
        take_step(checkpoint.network, [dream])
        times.append((("step", side), time.perf_counter() - began))
    return times


def _answer(checkpoint: Checkpoint, jpeg: bytes) -> dict[str, float]:
    side = checkpoint.card.input_size
    row = probabilities(checkpoint, decode(jpeg, side=side).as_input(side)[None])[0]
    return dict(zip(checkpoint.card.labels, row.tolist(), strict=True))


def _read(folder: Path) -> dict[str, list[bytes]]:
    kinds = sorted(path for path in folder.iterdir() if path.is_dir())
    return {kind.name: [path.read_bytes() for path in sorted(kind.glob("*.jpg"))] for kind in kinds}


def _print(bare: Bare) -> None:
    groups: dict[str, Mapping[Any, Spread]] = {
        "one picture of a batch of": bare.picture,
        "decoding": bare.decode,
        "decoding and model": bare.predict,
        "gradient step at side": bare.step,
    }
    for name, group in groups.items():
        for key, spread in group.items():
            print(f"{name} {key}: {spread.scaled(1000):.1f} ms")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    bare = measure(_read(options.folder), threads=options.threads, rounds=options.rounds)
    if options.json:
        print(json.dumps(asdict(bare)))
    else:
        _print(bare)


if __name__ == "__main__":
    main()
