"""The graph beside a checkpoint that `app.compiled` predicts with: operations without weights.

The TorchScript file alone is enough to make it. Its operations are written down while it looks at two
pictures, which gives a graph for any number of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from onnx import TensorProto, numpy_helper
from onnxscript.rewriter import rewrite
from onnxscript.rewriter.pattern import RewriteRule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from app.checkpoint import CheckpointError, judging
from app.compiled import SUFFIX, CannotCompile, Compiled, mark
from app.loading import with_compiled
from app.offline.files import replacing
from training.checksums import list_digest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import onnx
    import onnx_ir
    from numpy.typing import NDArray

    from app.checkpoint import Checkpoint

_MOST = 4096  # pictures in a batch that the graph is promised for; it does not ask
_PLACE = "the checkpoint"  # where ONNX is told that a weight is; it is given each before it looks there


def compile_checkpoint(checkpoint: Checkpoint, path: Path) -> Path:
    """Write the graph beside the checkpoint at `path`, list its digest, and return where it is.

    Raises:
        CheckpointError: the network cannot be compiled, or would give other answers.
    """
    weights = checkpoint.network.state_dict()
    try:
        model = onnx_of(checkpoint)
        graph = without_weights(model, names_of_weights(model, weights))
    except Exception as error:  # whatever the network does that cannot be written down
        raise CheckpointError(f"{path} cannot be compiled: {type(error).__name__}: {error}") from error
    try:
        compiled = Compiled(graph, weights, threads=torch.get_num_threads())
        with_compiled(checkpoint, compiled)
    except CannotCompile as error:
        raise CheckpointError(f"{path} cannot be compiled: {error}") from error
    return write_graph(graph, path.with_suffix(SUFFIX))


def write_graph(graph: bytes, path: Path) -> Path:
    """Put a graph where it is looked for, whole or not at all, and list its digest."""
    with replacing(path) as unfinished:
        unfinished.write_bytes(graph)
    list_digest(path)
    return path


def exported(checkpoint: Checkpoint) -> torch.export.ExportedProgram:
    """What the network says of pictures, their novelty included, as a graph of torch's operations."""
    side = checkpoint.card.input_size
    pictures = torch.zeros((2, 3, side, side), dtype=torch.uint8).to(memory_format=torch.channels_last)
    with torch.no_grad(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        return for_any_number(make_fx(judging(checkpoint), pre_dispatch=True)(pictures), pictures)


def onnx_of(checkpoint: Checkpoint) -> onnx.ModelProto:
    """The same in ONNX's words, with the weights."""
    model: onnx.ModelProto = rewrite(to_onnx(exported(checkpoint)).model_proto, [_border_free()])
    return model


def _border_free() -> RewriteRule:
    """One average for an average of windows and the division that takes the zero border out of its count.

    The division is there because torchvision's blocks average by themselves, see `training.inception`. It
    costs a pass over memory, and in 8-bit integers what is rounded before and after it.
    """
    shape = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1, 1, 1, 1]}

    def average(op: Any, windows: onnx_ir.Value, inside: onnx_ir.Value) -> Any:  # noqa: ANN401 - the library's
        counted = op.AveragePool(windows, count_include_pad=1, **shape, _allow_other_attributes=True)
        return op.Div(counted, inside)

    def divides_by_what_lies_inside(_: Any, inside: onnx_ir.Value, **__: Any) -> bool:  # noqa: ANN401
        if inside.const_value is None:
            return False
        divisor = inside.const_value.numpy()
        if divisor.ndim != 4:  # noqa: PLR2004 - [1, 1, h, w]
            return False
        ones = torch.ones(1, 1, *divisor.shape[2:])
        wanted = functional.avg_pool2d(ones, 3, stride=1, padding=1).numpy()
        return bool(divisor.shape == wanted.shape and np.allclose(divisor, wanted, atol=1e-6))

    def uncounted(op: Any, windows: onnx_ir.Value, **_: Any) -> Any:  # noqa: ANN401
        return op.AveragePool(windows, count_include_pad=0, **shape)

    return RewriteRule(average, uncounted, divides_by_what_lies_inside)


def for_any_number(network: torch.nn.Module, pictures: torch.Tensor) -> torch.export.ExportedProgram:
    """A network's operations, written down while it looks at some pictures, for any number of them."""
    count = torch.export.Dim("count", min=1, max=_MOST)
    return torch.export.export(network, (pictures,), dynamic_shapes=({0: count},))


def to_onnx(program: torch.export.ExportedProgram) -> torch.onnx.ONNXProgram:
    """Operations in ONNX's words, with the weights."""
    written = torch.onnx.export(program, dynamo=True, verbose=False)
    if written is None:
        raise RuntimeError("torch wrote no ONNX program")
    return written


def names_of_weights(model: onnx.ModelProto, weights: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """What the checkpoint calls those of the model's constants that are its weights."""
    names = {_content(weight.contiguous().numpy()): name for name, weight in weights.items()}
    contents = {tensor.name: _content(numpy_helper.to_array(tensor)) for tensor in model.graph.initializer}
    return {tensor: names[content] for tensor, content in contents.items() if content in names}


def without_weights(model: onnx.ModelProto, names: Mapping[str, str]) -> bytes:
    """The model with the checkpoint's names for its weights, in place of them; constants of its own stay.

    Args:
        model: which is changed on the way.
        names: see `names_of_weights`.
    """
    renamed: dict[str, str] = {}
    for tensor in model.graph.initializer:
        if (name := names.get(tensor.name)) is None:
            continue
        renamed[tensor.name] = mark(name)
        tensor.name = mark(name)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=_PLACE)
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.ClearField("doc_string")
        node.ClearField("metadata_props")  # which say where in this machine's files torch is
    model.graph.ClearField("value_info")
    model.graph.ClearField("metadata_props")
    model.ClearField("metadata_props")
    written: bytes = model.SerializeToString()
    return written


def _content(values: NDArray[Any]) -> tuple[object, ...]:
    return values.dtype, values.shape, values.tobytes()
