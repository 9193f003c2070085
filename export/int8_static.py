"""ONNX graphs of convolutional models with int8 weights and activations, measured beforehand.

Static quantisation in the QDQ form, weights by channel: the learned convolutions, and what only
passes on values between them, compute in eight bits. All else stays float32: resizing, fixed
filters, normalised embeddings, decoding, and the last convolutions, whose few channels are the
answer itself.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

PASSING = ("Relu", "Sigmoid", "Mul", "MaxPool", "Concat", "Add", "DepthToSpace")
"""Operators that are as good in eight bits, where they stand between two convolutions."""
FEWEST_CHANNELS = 5
"""A convolution to fewer channels is one of the last."""


def write_static_int8(source: Path, target: Path, images: Sequence[np.ndarray]) -> None:
    """Writes an int8 graph.

    Args:
        source: float32 graph whose only required input is `image`, uint8 [N, H, W, 3].
        target: where to.
        images: to measure activations on, uint8 [H, W, 3].

    Raises:
        ValueError: there is no image, or nothing to quantise.
    """
    import onnxruntime
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if not images:
        raise ValueError("expected images to calibrate on, got none")
    onnxruntime.set_default_logger_severity(3)  # it warns of optional inputs
    with tempfile.TemporaryDirectory() as scratch:
        unfolded, prepared = Path(scratch) / "unfolded.onnx", Path(scratch) / "prepared.onnx"
        onnx.save(enlarge_by_shuffling(onnx.load(source)), unfolded)
        quant_pre_process(unfolded, prepared, skip_symbolic_shape=True)
        graph = onnx.load(prepared).graph
        chosen = quantizable_nodes(graph)
        if not chosen:
            raise ValueError(f"{source} has no learned convolution")
        operators = {node.op_type for node in graph.node if node.name in chosen}
        quantize_static(
            prepared,
            target,
            _Images(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=sorted(chosen),
            op_types_to_quantize=sorted(operators),
        )


class _Images:
    """Feeds images to the calibration, one at a time: onnxruntime's CalibrationDataReader."""

    def __init__(self, images: Sequence[np.ndarray]) -> None:
        self._feeds: Iterator[dict[str, np.ndarray]] = ({"image": image[None]} for image in images)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self._feeds

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Returns the next image, None after the last."""
        return next(self._feeds, None)


def quantizable_nodes(graph: onnx.GraphProto) -> set[str]:
    """Names the learned convolutions but the last, and the `PASSING` operators between any."""
    sizes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    convolutions = {node.name for node in graph.node if _is_learned(node, sizes)}
    after, before = _after(graph, convolutions), _before(graph, convolutions)
    passing = {
        node.name
        for node in graph.node
        if node.op_type in PASSING and after & set(node.input) and before & set(node.output)
    }
    return convolutions | passing


def _is_learned(node: onnx.NodeProto, sizes: Mapping[str, tuple[int, ...]]) -> bool:
    """Tells by the bias that training leaves behind; fixed filters have none."""
    if node.op_type != "Conv" or len(node.input) < 3 or node.input[1] not in sizes:
        return False
    return sizes[node.input[1]][0] >= FEWEST_CHANNELS


def _after(graph: onnx.GraphProto, names: set[str]) -> set[str]:
    """Returns the tensors that depend on the named nodes."""
    found: set[str] = set()
    for node in graph.node:
        if node.name in names or found & set(node.input):
            found.update(node.output)
    return found


def _before(graph: onnx.GraphProto, names: set[str]) -> set[str]:
    """Returns the tensors that the named nodes depend on."""
    found: set[str] = set()
    for node in reversed(graph.node):
        if node.name in names or found & set(node.output):
            found.update(node.input)
    return found


def enlarge_by_shuffling(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy whose transposed convolutions of size and stride 2 are 1x1 convolutions.

    Each has four times the channels, which DepthToSpace lays out side by side: the same numbers,
    and ONNX Runtime has an int8 kernel for it.

    Source: Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?"
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if _doubles(node, weights):
            nodes += _shuffled(node, weights, graph)
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_unused(graph)
    return copy


def _doubles(node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]) -> bool:
    if node.op_type != "ConvTranspose" or len(node.input) < 3 or node.input[1] not in weights:
        return False
    settings: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    plain = settings.get("group", 1) == 1 and not any(settings.get("pads", ()))
    sizes = (list(settings.get("strides", ())), list(weights[node.input[1]].dims[2:]))
    return plain and sizes == ([2, 2], [2, 2])


def _shuffled(
    node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto], graph: onnx.GraphProto
) -> list[onnx.NodeProto]:
    kernel = numpy_helper.to_array(weights[node.input[1]])  # (in, out, 2, 2)
    bias = numpy_helper.to_array(weights[node.input[2]])
    channels_in, channels_out = kernel.shape[:2]
    flat = kernel.transpose(2, 3, 1, 0).reshape(4 * channels_out, channels_in, 1, 1)
    names = [f"{node.output[0]}/{part}" for part in ("kernel", "bias", "deep")]
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.ascontiguousarray(flat), names[0]),
            numpy_helper.from_array(np.tile(bias, 4), names[1]),
        ]
    )
    make = helper.make_node
    return [
        make("Conv", [node.input[0], *names[:2]], [names[2]], f"{node.name}/conv"),
        make("DepthToSpace", [names[2]], [node.output[0]], f"{node.name}/shuffle", blocksize=2),
    ]


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
