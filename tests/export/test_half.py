"""Graphs with float16 weights: half the size, and the same answers but for the rounding."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.half import half_weights, write_half

SIZE = 64


def graph_of(matrix, path):
    bias = np.full(SIZE, 0.1, np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "matrix"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["y"]),
    ]
    shape = ["N", SIZE]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(matrix, "matrix"), numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return model


@pytest.fixture
def matrix():
    return np.random.default_rng(1).normal(size=(SIZE, SIZE)).astype(np.float32)


def test_half_the_size_and_the_rounded_answers(matrix, tmp_path):
    graph_of(matrix, tmp_path / "full.onnx")
    write_half(tmp_path / "full.onnx", tmp_path / "half.onnx")
    sizes = [(tmp_path / name).stat().st_size for name in ("full.onnx", "half.onnx")]
    assert sizes[1] < 0.6 * sizes[0]
    x = np.random.default_rng(2).normal(size=(3, SIZE)).astype(np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "half.onnx")
    (found,) = session.run(["y"], {"x": x})
    rounded = matrix.astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(found, x @ rounded + np.float32(0.1), atol=1e-5)


def test_small_and_far_weights_stay_as_they_are(matrix, tmp_path):
    matrix[0, 0] = 1e6
    halved = half_weights(graph_of(matrix, tmp_path / "full.onnx"))
    assert {t.data_type for t in halved.graph.initializer} == {TensorProto.FLOAT}
    assert [node.op_type for node in halved.graph.node] == ["MatMul", "Add"]
