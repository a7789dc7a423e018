"""One engine that runs the checkpoint's network, in a process of its own: `bench.model` starts it.

All engines but the service's own get their network from the TorchScript file: its operations are written down
while it looks at two pictures, which gives a graph for any number of pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from torch.utils.flop_counter import FlopCounterMode

from app.checkpoint import load_torchscript, verified
from app.compiled import INT8_SUFFIX, SUFFIX, Compiled
from bench.machine import MEBIBYTE, memory
from training.compile import exported, onnx_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from app.checkpoint import Checkpoint

    Engine = Callable[[NDArray[np.uint8]], Any]
    """Pictures ``[N, 3, S, S]`` to logits and novelty."""

BATCHES = {1: 8, 8: 2, 32: 1}
"""Sizes, and how often each is run in a turn."""
TURNS = 4
"""The first warms up and is not kept."""
GEMM = 1024
INTEGERS = "integers"
"""What the service predicts with where 8-bit integers are asked for."""
FILES = Path("build/bench/model")


def _torchscript(checkpoint: Checkpoint, _: Path, __: int) -> Engine:
    return lambda pictures: checkpoint.network.judge(_channels_last(pictures))


def _contiguous(checkpoint: Checkpoint, _: Path, __: int) -> Engine:
    network = checkpoint.network.to(memory_format=torch.contiguous_format)
    return lambda pictures: network.judge(torch.from_numpy(pictures))


def _aot_inductor(checkpoint: Checkpoint, _: Path, __: int) -> Engine:
    """With freezing, which happens only where no gradients are asked for."""
    path = FILES / f"{checkpoint.sha256[:12]}-{torch.__version__}.pt2"
    if not path.is_file():
        with torch.no_grad():
            torch._inductor.aoti_compile_and_package(  # noqa: SLF001 - torch's documented name
                exported(checkpoint), package_path=str(path), inductor_configs={"freezing": True}
            )
    compiled = torch._inductor.aoti_load_package(str(path))  # noqa: SLF001
    return lambda pictures: compiled(_channels_last(pictures))


def _onnx(checkpoint: Checkpoint) -> str:
    path = FILES / f"{checkpoint.sha256[:12]}.onnx"
    if not path.is_file():
        onnx.save(onnx_of(checkpoint), path)
    return str(path)


def _served(checkpoint: Checkpoint, path: Path, threads: int, *, suffix: str = SUFFIX) -> Engine:
    graph, _ = verified(path.with_suffix(suffix))
    return Compiled(graph, checkpoint.network.state_dict(), threads=threads)


def _openvino(checkpoint: Checkpoint, _: Path, threads: int) -> Engine:
    import openvino  # noqa: PLC0415

    chosen = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    chosen["INFERENCE_PRECISION_HINT"] = "f32"
    compiled = openvino.Core().compile_model(_onnx(checkpoint), "CPU", chosen)
    return lambda pictures: list(compiled(pictures).values())


ENGINES: dict[str, Callable[[Checkpoint, Path, int], Engine]] = {
    "torchscript": _torchscript,
    "contiguous": _contiguous,
    "aot_inductor": _aot_inductor,
    "served": _served,
    INTEGERS: partial(_served, suffix=INT8_SUFFIX),
    "openvino": _openvino,
}


def measure(name: str, path: Path, threads: int) -> dict[str, Any]:
    """Milliseconds a picture by batch size, the largest difference of a logit, page faults and memory.

    `gemm` is in billions of operations a second, before anything else: what the processors gave just then.
    """
    checkpoint = load_torchscript(path, torch.device("cpu"))
    gemm = _gemm()
    before = time.perf_counter()
    engine = ENGINES[name](checkpoint, path, threads)
    started = time.perf_counter() - before
    side = checkpoint.card.input_size
    random = np.random.default_rng(0)
    times: dict[int, list[float]] = {size: [] for size in BATCHES}
    differs = 0.0
    with torch.inference_mode():
        for turn in range(TURNS):
            for size, repeats in BATCHES.items():
                pictures = random.integers(0, 256, (size, 3, side, side), dtype=np.uint8)
                began = time.perf_counter()
                for _ in range(repeats):
                    answer = engine(pictures)
                if turn:
                    times[size].append(1000 * (time.perf_counter() - began) / repeats / size)
                elif size == 1:
                    expected = checkpoint.network.judge(_channels_last(pictures))[0].numpy()
                    differs = float(np.abs(np.asarray(answer[0]) - expected).max())
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "times": times,
        "gemm": gemm,
        "operations": _operations(checkpoint),
        "differs": differs,
        "started": started,
        "faults": used.ru_minflt,
        "peak": memory(os.getpid(), "VmHWM") // MEBIBYTE,
        "resident": memory(os.getpid(), "VmRSS") // MEBIBYTE,
    }


def _gemm() -> float:
    left = torch.rand(GEMM, GEMM)
    best = min(_seconds_of_product(left) for _ in range(10))
    return 2 * GEMM**3 / best / 1e9


def _operations(checkpoint: Checkpoint) -> float:
    """Billions of multiplications and additions that direct convolutions take for a picture."""
    side = checkpoint.card.input_size
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        checkpoint.network(torch.zeros(1, 3, side, side))
    return float(counter.get_total_flops()) / 1e9


def _seconds_of_product(left: torch.Tensor) -> float:
    began = time.perf_counter()
    _ = left @ left
    return time.perf_counter() - began


def _channels_last(pictures: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(pictures).to(memory_format=torch.channels_last)


def main() -> None:
    """Measure one engine and print what was found, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    FILES.mkdir(parents=True, exist_ok=True)
    print(json.dumps(measure(options.engine, options.checkpoint, options.threads)))


if __name__ == "__main__":
    main()
