"""ONNX graphs with weights of sixteen bits: half the size, the arithmetic stays float32.

Processors without float16 arithmetic would convert back and forth at every operator. Here each
large weight is stored as float16 and cast to float32 by an operator of its own; engines do that
once, when they load the graph.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SMALLEST = 256
"""Weights with fewer numbers stay float32: biases and constants that cost nothing."""
_LARGEST = float(np.finfo(np.float16).max)


def write_half(source: Path, target: Path) -> None:
    """Writes a graph with float16 weights.

    Args:
        source: float32 graph.
        target: where to.
    """
    model = half_weights(onnx.load(source))
    onnx.checker.check_model(model)
    onnx.save(model, target)


def half_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy whose large float32 weights are float16, each behind a Cast."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    overridable = {value.name for value in graph.input}
    casts = []
    for tensor in graph.initializer:
        if tensor.name in overridable or not _is_large(tensor):
            continue
        name, stored = tensor.name, f"{tensor.name}/float16"
        array = numpy_helper.to_array(tensor)
        if np.abs(array).max() > _LARGEST:
            continue
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), stored))
        casts.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return copy


def _is_large(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type == TensorProto.FLOAT and int(np.prod(tensor.dims)) >= SMALLEST
