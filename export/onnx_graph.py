"""ONNX models from TensorFlow functions, and several of them joined into one."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET = 18

Dimensions = Sequence[int | str | None]


@dataclass(frozen=True)
class Part:
    """One model of a joined graph.

    Attributes:
        name: prefix of its nodes and weights.
        model: what to insert.
        reads: its input name -> the joined graph's tensor.
        writes: its output name -> the joined graph's tensor.
    """

    name: str
    model: onnx.ModelProto
    reads: Mapping[str, str]
    writes: Mapping[str, str]


def from_tensorflow(
    function: Callable[..., Any], inputs: Mapping[str, Any], outputs: Sequence[str]
) -> onnx.ModelProto:
    """Converts a TensorFlow function.

    Args:
        function: takes the inputs by position, returns one tensor for each output.
        inputs: name -> `tf.TensorSpec`.
        outputs: names of the results, in order.

    Raises:
        ValueError: if the converter leaves an operator that ONNX does not have.
    """
    import tensorflow as tf
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    signature = [tf.TensorSpec(s.shape, s.dtype, name=name) for name, s in inputs.items()]
    model, _ = tf2onnx.convert.from_function(
        tf.function(function), input_signature=signature, opset=OPSET
    )
    foreign = sorted(
        {node.op_type for node in model.graph.node if node.domain not in ("", "ai.onnx")}
    )
    if foreign:
        raise ValueError(f"operators without an ONNX counterpart: {', '.join(foreign)}")
    found = [value.name for value in model.graph.input]
    renames = _strip_suffixes(found, list(inputs))
    renames |= dict(zip([value.name for value in model.graph.output], outputs, strict=True))
    return _renamed(model, renames)


def _strip_suffixes(found: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Maps the converter's input names (`x`, `x:0`) to the names asked for."""
    by_stem = {name.split(":")[0]: name for name in found}
    missing = [name for name in names if name not in by_stem]
    if missing:
        raise ValueError(f"inputs {missing} vanished in conversion; left: {list(found)}")
    return {by_stem[name]: name for name in names}


def _renamed(model: onnx.ModelProto, renames: Mapping[str, str]) -> onnx.ModelProto:
    """Renames tensors in a copy of `model`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    for values in (graph.input, graph.output, graph.value_info, graph.initializer):
        for value in values:
            value.name = renames.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [renames.get(name, name) for name in node.input]
        node.output[:] = [renames.get(name, name) for name in node.output]
    return copy


def join(
    parts: Sequence[Part],
    inputs: Mapping[str, tuple[int, Dimensions]],
    outputs: Mapping[str, tuple[int, Dimensions]],
    *,
    name: str,
) -> onnx.ModelProto:
    """Joins models into one graph, checked by ONNX.

    Args:
        parts: in the order of computation.
        inputs: tensor name -> (ONNX element type, dimensions) of the joined graph.
        outputs: likewise.
        name: of the graph.
    """
    nodes: list[onnx.NodeProto] = []
    initializers: list[onnx.TensorProto] = []
    for part in parts:
        graph = _prefixed(part).graph
        nodes += graph.node
        initializers += graph.initializer
    graph = helper.make_graph(
        nodes, name, _value_infos(inputs), _value_infos(outputs), initializers
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="keras-model-service"
    )
    model.ir_version = 9  # what ONNX Runtime 1.17 and later read; opset 18 needs 8
    onnx.checker.check_model(model, full_check=True)
    return model


def _prefixed(part: Part) -> onnx.ModelProto:
    """Returns the part with private names, except where it meets the joined graph."""
    graph = part.model.graph
    outside = {**part.reads, **part.writes}
    names = {name for node in graph.node for name in [*node.input, *node.output] if name}
    names |= {tensor.name for tensor in graph.initializer}
    model = _renamed(part.model, {n: outside.get(n, f"{part.name}/{n}") for n in names})
    for number, node in enumerate(model.graph.node):
        node.name = f"{part.name}/{node.op_type}_{number}"
    return model


def _value_infos(values: Mapping[str, tuple[int, Dimensions]]) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(n, kind, shape) for n, (kind, shape) in values.items()]


def guard_empty_input() -> onnx.ModelProto:
    """Gives an empty batch one row, and empty rows one column, of zeros.

    ONNX Runtime's recurrent operators end the whole process on an empty batch. Input: `token_ids`
    int32 [N, T]. Outputs: `guarded_ids` int32 [max(N, 1), max(T, 1)], and `rows`, int64 [1], N.
    """
    node = helper.make_node
    constants: dict[str, np.ndarray] = {
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
        "no_pads": np.array([0, 0], np.int64),
        "padding": np.array(0, np.int32),
    }
    nodes = [
        node("Shape", ["token_ids"], ["shape"]),
        node("Slice", ["shape", "zero", "one"], ["rows"]),
        node("Equal", ["shape", "zero"], ["is_empty"]),
        node("Cast", ["is_empty"], ["missing"], to=onnx.TensorProto.INT64),
        node("Concat", ["no_pads", "missing"], ["pads"], axis=0),
        node("Pad", ["token_ids", "pads", "padding"], ["guarded_ids"]),
    ]
    inputs: dict[str, tuple[int, Dimensions]] = {"token_ids": (onnx.TensorProto.INT32, ["N", "T"])}
    outputs: dict[str, tuple[int, Dimensions]] = {
        "guarded_ids": (onnx.TensorProto.INT32, ["M", "S"]),
        "rows": (onnx.TensorProto.INT64, [1]),
    }
    return small_model("guard", nodes, inputs, outputs, constants)


def keep_rows(*sizes: int | str | None) -> onnx.ModelProto:
    """Takes back the row that `guard_empty_input` may have added.

    Inputs: `all_rows` float [M, sizes ...] and `rows` int64 [1]. Output: `kept` [rows, sizes ...].
    """
    nodes = [helper.make_node("Slice", ["all_rows", "zero", "rows", "zero"], ["kept"])]
    inputs: dict[str, tuple[int, Dimensions]] = {
        "all_rows": (onnx.TensorProto.FLOAT, ["M", *sizes]),
        "rows": (onnx.TensorProto.INT64, [1]),
    }
    outputs: dict[str, tuple[int, Dimensions]] = {"kept": (onnx.TensorProto.FLOAT, ["N", *sizes])}
    return small_model("keep_rows", nodes, inputs, outputs, {"zero": np.array([0], np.int64)})


def small_model(
    name: str,
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, Dimensions]],
    outputs: Mapping[str, tuple[int, Dimensions]],
    constants: Mapping[str, np.ndarray],
) -> onnx.ModelProto:
    """Makes a model of a few nodes, to be joined with others.

    Args:
        name: of the graph.
        nodes: in the order of computation.
        inputs: tensor name -> (ONNX element type, dimensions).
        outputs: likewise.
        constants: tensor name -> value.
    """
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, name, _value_infos(inputs), _value_infos(outputs), tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])


def count_operators(model: onnx.ModelProto, operator: str) -> int:
    """Counts the nodes of one operator in the main graph."""
    return sum(node.op_type == operator for node in model.graph.node)
