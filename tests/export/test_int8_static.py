"""Static int8: what is chosen, and what the rewritten graph answers."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.int8_static import enlarge_by_shuffling, quantizable_nodes, write_static_int8

CHANNELS = 8


def random(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32) / 4


@pytest.fixture
def model():
    """A small U-Net: filter without bias, two learned convolutions, a way up, two classes."""
    make, tensor = helper.make_node, numpy_helper.from_array
    weights = {
        "fixed": random(3, 1, 3, 3),
        "kernel1": random(CHANNELS, 3, 3, 3),
        "kernel2": random(CHANNELS, CHANNELS, 3, 3),
        "kernel_up": random(CHANNELS, CHANNELS, 2, 2),
        "kernel3": random(CHANNELS, 2 * CHANNELS, 3, 3),
        "kernel_last": random(2, CHANNELS, 1, 1),
        **{f"bias{n}": random(CHANNELS) for n in ("1", "2", "_up", "3")},
        "bias_last": random(2),
    }
    same = {"pads": [1, 1, 1, 1]}
    nodes = [
        make("Cast", ["image"], ["pixels"], "cast", to=TensorProto.FLOAT),
        make("Transpose", ["pixels"], ["planes"], "planes", perm=[0, 3, 1, 2]),
        make("Conv", ["planes", "fixed"], ["filtered"], "filter", group=3, **same),
        make("Conv", ["filtered", "kernel1", "bias1"], ["a"], "conv1", **same),
        make("Relu", ["a"], ["b"], "relu1"),
        make("MaxPool", ["b"], ["c"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        make("Conv", ["c", "kernel2", "bias2"], ["d"], "conv2", **same),
        make("ConvTranspose", ["d", "kernel_up", "bias_up"], ["e"], "up", strides=[2, 2]),
        make("Concat", ["b", "e"], ["f"], "join", axis=1),
        make("Conv", ["f", "kernel3", "bias3"], ["g"], "conv3", **same),
        make("Conv", ["g", "kernel_last", "bias_last"], ["logits"], "last"),
    ]
    graph = helper.make_graph(
        nodes,
        "unet",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2, "h", "w"])],
        [tensor(value, name) for name, value in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(made)
    return made


def images(count):
    source = np.random.default_rng(7)
    return [source.integers(0, 256, (16, 16, 3)).astype(np.uint8) for _ in range(count)]


def run(model, image):
    content = model if isinstance(model, str) else model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"image": image[None]})[0]


def test_a_transposed_convolution_becomes_a_shuffled_one(model):
    shuffled = enlarge_by_shuffling(model)
    onnx.checker.check_model(shuffled)
    operators = [node.op_type for node in shuffled.graph.node]
    assert "ConvTranspose" not in operators
    assert "DepthToSpace" in operators
    assert "kernel_up" not in {tensor.name for tensor in shuffled.graph.initializer}
    (image,) = images(1)
    np.testing.assert_allclose(run(shuffled, image), run(model, image), rtol=1e-5, atol=1e-3)


def test_learned_convolutions_and_what_lies_between_are_chosen(model):
    chosen = quantizable_nodes(enlarge_by_shuffling(model).graph)
    assert chosen == {"conv1", "relu1", "pool", "conv2", "up/conv", "up/shuffle", "join", "conv3"}


def test_the_graph_is_smaller_by_channel_and_close(model, tmp_path):
    onnx.save(model, tmp_path / "model.onnx")
    path = tmp_path / "model.int8.onnx"
    write_static_int8(tmp_path / "model.onnx", path, images(8))
    onnx.checker.check_model(path)
    graph = onnx.load(path).graph
    (image,) = images(1)
    expected, found = run(model, image), run(str(path), image)
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    kernels = [tensors[n.input[0]] for n in graph.node if n.input[0] in tensors and _is_kernel(n)]
    assert len(kernels) == 4
    for kernel in kernels:
        scales = tensors[kernel.name.replace("_quantized", "_scale")]
        assert kernel.data_type == TensorProto.INT8
        assert list(scales.dims) == list(kernel.dims[:1])  # one for each channel


def _is_kernel(node):
    return node.op_type == "DequantizeLinear" and "kernel" in node.input[0]


def test_refusals(model, tmp_path):
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="expected images"):
        write_static_int8(tmp_path / "model.onnx", tmp_path / "out.onnx", [])
    for node in model.graph.node:
        del node.input[2:]  # nothing is learned
    onnx.save(model, tmp_path / "fixed.onnx")
    with pytest.raises(ValueError, match="no learned convolution"):
        write_static_int8(tmp_path / "fixed.onnx", tmp_path / "out.onnx", images(1))
