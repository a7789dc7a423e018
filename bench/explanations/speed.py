"""What an explanation costs: in seconds, in predictions, and beside others that are asked for at once."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from app.checkpoint import probabilities
from app.devices import choose_devices
from app.engine import Engine, EngineLimits, Model
from app.explain.dream import QUICK, THOROUGH, Dream, take_step
from app.loading import load
from app.metrics import Metrics
from bench.machine import Watch
from bench.report import table

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from app.checkpoint import Checkpoint
    from app.engine import Explanation
    from app.explain.dream import DreamSettings
    from app.picture import Pixels

ROUNDS = 7
TOGETHER = 8
LAYER = "Mixed_6e"
T = TypeVar("T")

_LONG = 600.0  # seconds, so that no deadline plays a part


def speed(path: Path, threads: int) -> str:
    """A section of Markdown. Each figure is the median of some rounds, which take turns."""
    watch = Watch()
    checkpoint, medians = _apart(partial(_measured, path, threads))
    alone, together = asyncio.run(_eight(checkpoint, threads))
    served, dreamed = list(medians.values())[:2]
    rows = [
        (name, f"{1000 * took:.0f} ms", f"{took / served:.1f}", f"{took / dreamed:.1f}")
        for name, took in medians.items()
    ]
    rows += [
        (f"{TOGETHER} quick ones, one after the other", f"{1000 * alone / TOGETHER:.0f} ms each", "", ""),
        (f"{TOGETHER} quick ones at once", f"{1000 * together / TOGETHER:.0f} ms each", "", ""),
    ]
    head = ("explanation", "time", "in predictions", "in passes of the network that is dreamed with")
    ratio = f"At once, each costs {together / alone:.2f} of what it costs alone."
    taken = f"Others took {100 * watch.taken().others:.1f} % of the machine meanwhile; {threads} threads."
    return f"{table(head, rows)}\n\n{ratio} {taken}\n"


def _apart(work: Callable[[], T]) -> T:
    """In a thread that ends with it, as the service loads: see `app.engine.model.load_model_apart`.

    Whatever had computed in the main thread would slow down the engine's afterwards.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def _measured(path: Path, threads: int) -> tuple[Checkpoint, dict[str, float]]:
    """The checkpoint, and seconds by what is done with it alone."""
    torch.set_num_threads(threads)
    checkpoint = load(path, torch.device("cpu"))
    side = checkpoint.card.input_size
    pixels = np.random.default_rng(0).integers(0, 256, (3, side, side), dtype=np.uint8)
    kinds: dict[str, Callable[[], object]] = {
        "one prediction": partial(probabilities, checkpoint, pixels[np.newaxis]),
        "one by the network that is dreamed with": partial(
            probabilities, replace(checkpoint, compiled=None), pixels[np.newaxis]
        ),
        "quick": partial(_dream, checkpoint, pixels, QUICK),
        "thorough": partial(_dream, checkpoint, pixels, THOROUGH),
        f"quick, of layer {LAYER}": partial(_dream, checkpoint, pixels, QUICK, LAYER),
    }
    if LAYER not in checkpoint.layers:
        kinds.popitem()
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(ROUNDS + 2):  # the first two are for TorchScript, which specialises its graph
        for name, run in kinds.items():
            seconds[name].append(_seconds(run))
    return checkpoint, {name: median(each[2:]) for name, each in seconds.items()}


def _dream(checkpoint: Checkpoint, pixels: Pixels, settings: DreamSettings, layer: str | None = None) -> None:
    dream = Dream(pixels, 0, checkpoint, settings, layer)
    while not dream.done:
        take_step(checkpoint.network, [dream])


async def _eight(checkpoint: Checkpoint, threads: int) -> tuple[float, float]:
    """Seconds for all, one after the other and at once, through the engine as the service has it."""
    model = Model((checkpoint,))
    engine = Engine(choose_devices("cpu", threads), EngineLimits(), Metrics())
    engine.start(model)
    while not engine.ready:  # noqa: ASYNC110 - it warms up
        await asyncio.sleep(0.05)
    side = checkpoint.card.input_size
    pictures = np.random.default_rng(1).integers(0, 256, (TOGETHER, 3, side, side), dtype=np.uint8)

    def ask(pixels: Pixels) -> Coroutine[None, None, Explanation]:
        return engine.explain(model, pixels, 0, deadline=time.monotonic() + _LONG)

    alone, together = [], []
    for _ in range(3):
        began = time.perf_counter()
        for pixels in pictures:
            await ask(pixels)
        alone.append(time.perf_counter() - began)
        began = time.perf_counter()
        await asyncio.gather(*(ask(pixels) for pixels in pictures))
        together.append(time.perf_counter() - began)
    await engine.drain(grace=5)
    return median(alone), median(together)


def _seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
