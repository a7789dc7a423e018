"""A checkpoint with whatever computes its predictions in the least time here.

On a processor that is the graph beside it (`app.compiled`), in single precision or, on request, in 8-bit
integers; on a GPU, CUDA graphs (`app.captured`), on request in half precision (`app.halved`). Each is tried
out at every load. TorchScript takes the place of what cannot be had or answers otherwise, and the log says
so; but never that of a lower precision, which somebody has asked for.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import ValidationError

from app.captured import Captured
from app.card import Quantised
from app.checkpoint import (
    TORCHSCRIPT,
    CheckpointError,
    judge,
    judging,
    load_torchscript,
    probabilities,
    verified,
)
from app.compiled import INT8_SUFFIX, QUANTISED, SUFFIX, CannotCompile, Compiled
from app.halved import HALF_SUFFIX, in_half

if TYPE_CHECKING:
    from collections.abc import Callable, Set
    from pathlib import Path

    from numpy.typing import NDArray

    from app.checkpoint import Checkpoint, Computing, Precision

LARGEST_DIFFERENCE = 1e-3
"""That a compiled network's probabilities and novelty may have from TorchScript's."""
LARGEST_LOWER_DIFFERENCE = 0.02
"""That probabilities in a lower precision may have from those where it was measured. How far they are from
single precision's was measured there, on real pictures; noise, which tries out a load, says nothing of it."""
_PROBES = 3
_WORDS = {"float16": "half precision", "int8": "8-bit integers"}

log = logging.getLogger("deepemotion.service")


def load(
    path: Path,
    device: torch.device,
    *,
    precision: Precision = "float32",
    threads: int | None = None,
    cpus: Set[int] | None = None,
    streams: int = 1,
) -> Checkpoint:
    """Verify and load a checkpoint onto a device.

    On a processor it predicts with the compiled graph beside it, if there is one; on a GPU, in CUDA graphs.

    Args:
        path: of the TorchScript file.
        device: where the network is to be.
        precision: of predictions.
        threads: of the compiled network; None is as many as torch has.
        cpus: processors that they keep to; None is all.
        streams: threads that may also predict each for itself.

    Raises:
        CheckpointError: the file is not `verified`, is no TorchScript file, or has no valid card; the graph
            beside it is not `verified`; or a lower precision is asked for and cannot be had.
    """
    checkpoint = load_torchscript(path, device)
    graph = path.with_suffix(INT8_SUFFIX if precision == "int8" else SUFFIX)

    def beside() -> Compiled:
        operations, _ = verified(graph)
        weights = checkpoint.network.state_dict()
        return Compiled(
            operations,
            weights,
            threads=threads or torch.get_num_threads(),
            cpus=cpus,
            streams=streams > 1,
        )

    if precision == "int8":
        return _in_integers(checkpoint, graph, beside)
    if precision == "float16":
        return _in_half(checkpoint, path.with_suffix(HALF_SUFFIX))
    compiled: Computing
    try:
        if device.type == "cuda":
            compiled = Captured(judging(checkpoint), checkpoint.card.input_size, device)
        elif graph.is_file():
            compiled = beside()
        else:
            return checkpoint
        return _with_stream(with_compiled(checkpoint, compiled))
    except CannotCompile as error:
        log.warning("%s is predicted with TorchScript alone: %s", path.name, error)
        return replace(checkpoint, predicts=f"{TORCHSCRIPT}, because {error}")


def _in_integers(checkpoint: Checkpoint, graph: Path, beside: Callable[[], Compiled]) -> Checkpoint:
    """The checkpoint that predicts in 8-bit integers.

    Nothing takes their place, because somebody has asked for them.

    Raises:
        CheckpointError: they cannot be had; the message says why.
    """
    if checkpoint.device.type != "cpu":
        raise CheckpointError(
            f"8-bit integers are for processors, and the checkpoint is to be on {checkpoint.device}"
        )
    if not graph.is_file():
        raise CheckpointError(f"there is no {graph} to predict with; `python -m training quantise` makes it")
    try:
        compiled = beside()
        return _with_stream(_with_lower(checkpoint, compiled, compiled.metadata.get(QUANTISED, ""), "int8"))
    except CannotCompile as error:
        raise CheckpointError(f"{graph} cannot predict: {error}") from error


def _in_half(checkpoint: Checkpoint, beside: Path) -> Checkpoint:
    """The checkpoint that predicts in half precision, in CUDA graphs.

    Nothing takes its place, because somebody has asked for it.

    Raises:
        CheckpointError: it cannot be had; the message says why.
    """
    device = checkpoint.device
    if device.type != "cuda":
        raise CheckpointError(f"half precision is for GPUs, and the checkpoint is to be on {device}")
    if not beside.is_file():
        raise CheckpointError(f"there is no {beside}; `python -m training halve` makes it")
    note, _ = verified(beside)
    try:
        halved = Captured(in_half(judging(checkpoint), device), checkpoint.card.input_size, device)
        return _with_lower(checkpoint, halved, note, "float16")
    except CannotCompile as error:
        raise CheckpointError(f"half precision cannot predict: {error}") from error


def _with_lower(
    checkpoint: Checkpoint, lower: Computing, told: str | bytes, precision: Precision
) -> Checkpoint:
    """The checkpoint that predicts in a lower precision, which says of itself what it changes.

    Raises:
        CannotCompile: it does not say so, is another checkpoint's, or answers otherwise than it did there.
    """
    try:
        quantised = Quantised.model_validate_json(told)
    except ValidationError as error:
        raise CannotCompile(f"it does not say what comes of {_WORDS[precision]}: {error}") from error
    if quantised.sha256 != checkpoint.sha256:
        raise CannotCompile("it was made of another checkpoint, and tells of that one")
    predicting = replace(
        checkpoint,
        compiled=lower,
        predicts=f"{lower.name}, in {_WORDS[precision]}",
        precision=precision,
        quantised=quantised,
    )
    pictures, expected = probes(checkpoint.card.input_size), np.array(quantised.answers)
    _check(
        lambda: float(np.abs(probabilities(predicting, pictures) - expected).max()), LARGEST_LOWER_DIFFERENCE
    )
    return predicting


def with_compiled(checkpoint: Checkpoint, compiled: Computing) -> Checkpoint:
    """The checkpoint that predicts with a compiled network, once that has given the same answers.

    Raises:
        CannotCompile: it has given others, or none.
    """
    pictures = probes(checkpoint.card.input_size)
    faster = replace(checkpoint, compiled=compiled, predicts=compiled.name)
    _check(lambda: judge(faster, pictures).difference(judge(checkpoint, pictures)), LARGEST_DIFFERENCE)
    return faster


def _with_stream(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint that predicts on single threads too, if what it predicts with does.

    Raises:
        CannotCompile: its answers there are others, or none.
    """
    if not (isinstance(checkpoint.compiled, Compiled) and checkpoint.compiled.stream):
        return checkpoint
    streaming = replace(checkpoint, stream=checkpoint.compiled.stream)
    pictures = probes(checkpoint.card.input_size)
    _check(
        lambda: judge(streaming.as_stream(), pictures).difference(judge(checkpoint, pictures)),
        LARGEST_DIFFERENCE,
    )
    return streaming


def probes(side: int) -> NDArray[np.uint8]:
    """Pictures ``[N, 3, side, side]`` that try out a network which is to take TorchScript's place."""
    pictures = np.random.default_rng(0).integers(0, 256, (_PROBES, 3, side, side), dtype=np.uint8)
    pictures[-1] //= 8  # a dark one too
    return pictures


def _check(difference: Callable[[], float], allowed: float) -> None:
    """Raises CannotCompile unless answers can be had, and differ by no more than is allowed."""
    try:
        found = difference()
    except Exception as error:  # whatever a graph of something else leads to
        raise CannotCompile(f"it does not run: {error}") from error
    if not found <= allowed:
        raise CannotCompile(f"its answers differ by {found:.2g}; {allowed:g} is allowed")
