"""A checkpoint's network as ONNX Runtime computes it, which takes processors less time than TorchScript.

``NAME.onnx`` beside ``NAME.pt`` says which operations follow one another; ``python -m training compile``
writes it. It has no weights: they are the checkpoint's own, found by name, so the two cannot drift apart.
TorchScript stays the file of record. It gives the gradients that explanations are made of, and it predicts
wherever there is no such graph, nothing to run it, or an answer that differs.
"""

from __future__ import annotations

import os
from copy import copy
from typing import TYPE_CHECKING, Any

import torch

# Read when it is imported: without this, some releases report to their makers, and leave a file behind.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Mapping, Set

    import numpy as np
    from numpy.typing import NDArray

SUFFIX = ".onnx"
INT8_SUFFIX = ".int8.onnx"
QUANTISED = "deepemotion.quantised"
"""What a graph in 8-bit integers has in its metadata, as JSON of `app.card.Quantised`."""
_ERRORS_ALONE = 3
_NO_MEMORY = "Failed to allocate memory"


def mark(name: str) -> str:
    """The graph's name for a weight of the checkpoint, which is part of no other name."""
    return f"<{name}>"


class CannotCompile(Exception):
    """TorchScript has to predict; the message says why."""


class Compiled:
    """A network on the processor.

    Args:
        graph: the bytes of such a file.
        weights: single precision, by their names in the checkpoint.
        threads: that compute together.
        cpus: processors that those which are started here keep to; None is all.
        streams: whether it is also to compute on single threads.

    Attributes:
        name: of what computes, and its version.
        metadata: of the graph.
        stream: computes on the thread that calls it alone, and several may call it at once; None without
            `streams`. It has the same weights, but once more in the order that convolutions read them in.

    Raises:
        CannotCompile: the graph does not fit the weights, or is none.
    """

    def __init__(
        self,
        graph: bytes,
        weights: Mapping[str, torch.Tensor],
        *,
        threads: int,
        cpus: Set[int] | None = None,
        streams: bool = False,
    ) -> None:
        # The session reads them where they are, so they are kept.
        self._weights = {
            mark(name): onnxruntime.OrtValue.ortvalue_from_numpy(weight.contiguous().numpy())
            for name, weight in weights.items()
            if mark(name).encode() in graph  # it accepts none but those that it needs, and does not list them
        }
        self.name = f"ONNX Runtime {onnxruntime.__version__}"
        self._session = _session(graph, self._weights, threads, cpus)
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        self._input: str = self._session.get_inputs()[0].name
        self.stream: Compiled | None = None
        if streams:
            self.stream = copy(self)
            self.stream._session = _session(graph, self._weights, 1, None)  # noqa: SLF001 - it is our copy

    def __call__(self, pictures: NDArray[np.uint8]) -> tuple[torch.Tensor, ...]:
        """Logits ``[N, K]``, and novelty ``[N]`` if the network has it, of pictures ``uint8 [N, 3, S, S]``.

        Raises:
            MemoryError: there is not enough memory for so many.
        """
        try:
            answers: list[NDArray[Any]] = self._session.run(None, {self._input: pictures})
        except Exception as error:
            if _NO_MEMORY in str(error):
                raise MemoryError(_NO_MEMORY) from error
            raise
        return tuple(torch.from_numpy(answer) for answer in answers)


def _session(
    graph: bytes, weights: Mapping[str, onnxruntime.OrtValue], threads: int, cpus: Set[int] | None
) -> onnxruntime.InferenceSession:
    """Raises CannotCompile."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ALONE
    options.intra_op_num_threads = threads
    if threads > 1:  # its threads wait actively within a run, not between two: others want the processors
        options.add_session_config_entry("session.force_spinning_stop", "1")
    if cpus is not None and threads > 1:
        each = ",".join(str(cpu + 1) for cpu in sorted(cpus))  # it counts them from one
        options.add_session_config_entry(
            "session.intra_op_thread_affinities", ";".join([each] * (threads - 1))
        )
    try:
        options.add_external_initializers(list(weights), list(weights.values()))
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # whatever it raises on a graph, TorchScript remains
        raise CannotCompile(f"the graph does not fit the network: {error}") from error
