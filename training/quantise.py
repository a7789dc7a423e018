"""A second graph beside a checkpoint, in 8-bit integers, with what they change measured and written into it.

Each convolution's kernel has a scale for every channel, and what flows between the layers has one scale a
place, as wide as what was seen there of some training pictures (Jacob et al. 2018, arXiv 1712.05877; ONNX
Runtime's quantiser). Kernels keep to 7 bits, because processors without instructions for 8-bit products add
two of them in 16 bits, which 8 bits would overflow. The last layer and novelty stay in single precision.

Like the graph in single precision it has no kernels: it rounds the checkpoint's own when it is loaded. But
its scales are those of one checkpoint, so it serves no other.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from app.checkpoint import CheckpointError
from app.compiled import INT8_SUFFIX, QUANTISED, CannotCompile, Compiled
from app.loading import load
from training.compile import names_of_weights, onnx_of, without_weights, write_graph
from training.lower_precision import as_seen, check_tested, measured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from app.card import Quantised
    from app.checkpoint import Checkpoint
    from training.affective_set import AffectiveSet
    from training.partition import Partition

_CPU = torch.device("cpu")
_IN_INTEGERS = ["Conv", "Relu", "MaxPool", "AveragePool", "Concat"]
_ROUNDED = "_quantized"  # what the quantiser puts behind the name of what it has rounded


def quantise(
    checkpoint: Checkpoint, path: Path, rated: AffectiveSet, partition: Partition, *, pictures: int
) -> Quantised:
    """Write the graph in 8-bit integers beside the checkpoint at `path`, and list its digest.

    Args:
        checkpoint: by TorchScript alone, on the processor.
        path: of the checkpoint.
        rated: the pictures that it learned from.
        partition: of them. Training pictures set the scales, held-out ones tell what changes.
        pictures: so many training pictures at most, by the seed of the split.

    Raises:
        CheckpointError: the network cannot be computed in integers.
        EvaluationError: the pictures are rated for other emotions, or there are no held-out ones.
    """
    check_tested(checkpoint, rated, partition)
    seed = checkpoint.card.split.seed
    chosen = np.random.default_rng(seed).permutation(partition.train)[:pictures]
    weights = checkpoint.network.state_dict()
    try:
        model, names = _rounded(checkpoint, as_seen(checkpoint, rated, chosen))
        graph = without_weights(model, names)
        compiled = Compiled(graph, weights, threads=torch.get_num_threads())
    except CannotCompile as error:
        raise CheckpointError(f"{path} cannot be quantised: {error}") from error
    except Exception as error:  # whatever the network does that cannot be written down or rounded
        raise CheckpointError(f"{path} cannot be quantised: {type(error).__name__}: {error}") from error
    quantised = measured(checkpoint, compiled, rated, partition)
    helper.set_model_props(model, {QUANTISED: quantised.model_dump_json()})
    write_graph(model.SerializeToString(), path.with_suffix(INT8_SUFFIX))
    load(path, _CPU, precision="int8")  # as the service does; what it would refuse is refused now
    return quantised


class _Shown(quantization.CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Pictures as the service sees them, a batch after the other, for the quantiser."""

    def __init__(self, pictures: Iterator[NDArray[np.uint8]], name: str) -> None:
        self._pictures = pictures
        self._name = name

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """The next batch by the name of the network's input; None after the last."""
        batch = next(self._pictures, None)
        return None if batch is None else {self._name: batch}


def _rounded(
    checkpoint: Checkpoint, pictures: Iterator[NDArray[np.uint8]]
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """The network in integers, which rounds its kernels itself, and the checkpoint's names for them."""
    single = onnx_of(checkpoint)
    names = names_of_weights(single, checkpoint.network.state_dict())
    shown = _Shown(pictures, single.graph.input[0].name)
    kernels = {tensor.name: tensor for tensor in single.graph.initializer if tensor.name in names}
    with tempfile.TemporaryDirectory() as folder:
        ready, rounded = Path(folder) / "ready.onnx", Path(folder) / "rounded.onnx"
        quant_pre_process(single, ready, skip_optimization=True, skip_symbolic_shape=True)
        quantization.quantize_static(
            ready,
            rounded,
            shown,
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=_IN_INTEGERS,
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        model = onnx.load(rounded)
    rounded_kernels = [each for each in model.graph.initializer if each.data_type == TensorProto.INT8]
    for tensor in rounded_kernels:
        kernel = tensor.name.removesuffix(_ROUNDED)
        if kernel == tensor.name or kernel not in kernels:
            continue  # a zero point
        model.graph.initializer.remove(tensor)
        model.graph.initializer.append(kernels[kernel])
        scale = (f"{kernel}_scale", f"{kernel}_zero_point")
        node = helper.make_node("QuantizeLinear", [kernel, *scale], [tensor.name], axis=0)
        model.graph.node.insert(0, node)
    return model, names
