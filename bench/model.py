"""The bare network in several engines, each in a process of its own, beside a matrix product of the same run.

    python -m bench.model            about 10 minutes, the compiler's two included

The service predicts with ONNX Runtime. OpenVINO is a peer, and AOTInductor torch's own compiler. TorchScript
is run with three ways of getting memory. Engines take turns, so that a slow moment of the machine does not
hit one alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cpus import available_cpus
from bench import machine
from bench.bare import CHECKPOINT
from bench.engines import INTEGERS
from bench.machine import Watch
from bench.report import bullets, circumstances, progress, replace_section, table, verdict
from bench.spread import Spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PYTHON = Path(".venv/peers/bin/python")
ROUNDS = 3
JEMALLOC = Path("/usr/lib") / f"{platform.machine()}-linux-gnu" / "libjemalloc.so.2"
KEEPING = {"MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1"}
BATCHES = ("1", "8", "32")
SERVED_SHARE = 0.75
"""Of TorchScript's time, at most, at batch 8."""
OF_THE_CHIP = 1.25
"""Of the time that direct convolutions would take at the speed of a matrix product, at most, at batch 8."""
PEERS_LEAD = 1.05
"""How much longer than the fastest peer what is served may take."""
PEERS = ("AOTInductor", "OpenVINO")


@dataclass(frozen=True)
class Contender:
    """An engine of `bench.engines` and the environment that it runs in."""

    name: str
    engine: str
    environment: Mapping[str, str] = field(default_factory=dict)


SERVED = Contender("ONNX Runtime, as served", "served")
TORCHSCRIPT = Contender("TorchScript", "torchscript")
CONTENDERS = (
    SERVED,
    Contender("ONNX Runtime in 8-bit integers, as served on request", INTEGERS),
    TORCHSCRIPT,
    Contender("TorchScript, contiguous", "contiguous"),
    Contender("TorchScript, jemalloc", "torchscript", {"LD_PRELOAD": str(JEMALLOC)}),
    Contender(
        "TorchScript, jemalloc that keeps pages", "torchscript", {"LD_PRELOAD": str(JEMALLOC), **KEEPING}
    ),
    Contender(PEERS[0], "aot_inductor"),
    Contender(PEERS[1], "openvino"),
)

Found = dict[str, list[dict[str, Any]]]
"""What `bench.engines.measure` said in each round, by the contender's name."""


def measure(python: Path, rounds: int, threads: int) -> tuple[Found, list[float]]:
    """What each contender said in each round, and the share of the machine that others took.

    A round before the first compiles and exports what is not there yet, and is not kept.
    """
    found: Found = {contender.name: [] for contender in CONTENDERS}
    others = []
    for turn in range(rounds + 1):
        watch = Watch()
        shift = turn % len(CONTENDERS)
        for contender in (*CONTENDERS[shift:], *CONTENDERS[:shift]):
            progress(f"round {turn} of {rounds}: {contender.name}")
            told = _run(python, contender, threads)
            if turn:
                found[contender.name].append(told)
        if turn:
            others.append(watch.taken().others)
    return found, others


def _run(python: Path, contender: Contender, threads: int) -> dict[str, Any]:
    command = [str(python), "-m", "bench.engines", contender.engine]
    command += ["--checkpoint", str(CHECKPOINT), "--threads", str(threads)]
    surroundings = {**os.environ, "PYTHONPATH": str(Path.cwd()), **contender.environment}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=surroundings)  # noqa: S603
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def speed(runs: Sequence[dict[str, Any]], batch: str) -> Spread:
    """Milliseconds a picture, of all rounds together."""
    return Spread.of_many(value for run in runs for value in run["times"][batch])


def section(found: Found) -> str:
    """In Markdown, with the verdicts."""
    rows = []
    for name, runs in found.items():
        last = runs[-1]
        rows.append(
            (
                name,
                *(f"{speed(runs, batch):.1f}" for batch in BATCHES),
                f"{Spread.of(run['started'] for run in runs):.1f}",
                f"{last['faults'] / 1000:.0f}",
                f"{last['resident']} / {last['peak']}",
                f"{max(run['differs'] for run in runs):.0e}",
            )
        )
    head = ("engine", *(f"ms a picture, batch {batch}" for batch in BATCHES))
    head += ("start, s", "page faults, thousands", "memory, MiB, at the end / at most", "logits differ by")
    gemm = Spread.of(run["gemm"] for runs in found.values() for run in runs)
    served, script = (speed(found[each.name], "8").median for each in (SERVED, TORCHSCRIPT))
    rival = min(PEERS, key=lambda name: speed(found[name], "8").median)
    lead = served / speed(found[rival], "8").median
    chip = served / (1000 * found[SERVED.name][0]["operations"] / gemm.median)
    bars = [
        (
            f"what is served at batch 8 takes at most {SERVED_SHARE:g} of TorchScript's time",
            f"{served / script:.2f}",
            verdict(served <= SERVED_SHARE * script),
        ),
        (
            f"and at most {OF_THE_CHIP:g} of a direct convolution's time at the matrix product's speed",
            f"{chip:.2f}",
            verdict(chip <= OF_THE_CHIP),
        ),
        (
            f"and at most {PEERS_LEAD:g} of {rival}'s time",
            f"{lead:.2f}",
            verdict(lead <= PEERS_LEAD),
        ),
    ]
    set_up = (
        f"A matrix product of single precision reached {gemm:.0f} billion operations a second in the same "
        "processes. Brackets hold the 10th and the 90th percentile, those of `start` and of the product the "
        "least and the greatest. `start` is from the checkpoint, read as TorchScript, to an engine that can "
        "be asked, without compiling; the memory of all includes that checkpoint, which the logits are "
        "compared with."
    )
    return "\n\n".join((set_up, table(head, rows), table(("bar", "measured", "verdict"), bars)))


def main() -> None:
    """Measure and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--python", type=Path, default=PYTHON, help="with torch and the peers")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--threads", type=int, default=available_cpus(), help="of each engine")
    options = parser.parse_args()
    if not JEMALLOC.is_file():
        parser.error(f"{JEMALLOC} is missing: apt-get install libjemalloc2")
    began = time.monotonic()
    found, others = measure(options.python, options.rounds, options.threads)
    packages = ("torch", "onnxruntime", "openvino")
    versions = {package: machine.version(options.python, package) for package in packages}
    facts = circumstances(versions, minutes=(time.monotonic() - began) / 60, others=others)
    replace_section(
        "model", "\n\n".join(["## The bare network in several engines", bullets(facts), section(found)])
    )
    progress("written to bench/RESULTS.md")


if __name__ == "__main__":
    main()
