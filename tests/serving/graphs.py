"""Small ONNX graphs whose answers are known."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto as OnnxTensor
from onnx import helper, numpy_helper

WORDS = ("good", "bad", "film", "the", "was", "not")


def save_graph(folder: Path, graph: onnx.GraphProto) -> None:
    """Writes a graph as a version's `model.onnx`; the folder must not be there yet."""
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9, producer_name="tests"
    )
    onnx.checker.check_model(model)
    folder.mkdir(parents=True)
    onnx.save(model, str(folder / "model.onnx"))


def _constant(name: str, value: Any, dtype: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def half_plus_two_graph(offset: float) -> onnx.GraphProto:
    """y = x / 2 + offset, float32 [N, 3], and z = -x."""
    return helper.make_graph(
        [
            helper.make_node("Mul", ["x", "half"], ["scaled"]),
            helper.make_node("Add", ["scaled", "offset"], ["y"]),
            helper.make_node("Neg", ["x"], ["z"]),
        ],
        "half_plus_two",
        [helper.make_tensor_value_info("x", OnnxTensor.FLOAT, ["n", 3])],
        [
            helper.make_tensor_value_info("y", OnnxTensor.FLOAT, ["n", 3]),
            helper.make_tensor_value_info("z", OnnxTensor.FLOAT, ["n", 3]),
        ],
        [_constant("half", 0.5, np.float32), _constant("offset", offset, np.float32)],
    )


def lookup_graph() -> onnx.GraphProto:
    """y = table[index]: an index outside of 0..3 fails when the graph runs."""
    return helper.make_graph(
        [helper.make_node("Gather", ["table", "index"], ["y"])],
        "lookup",
        [helper.make_tensor_value_info("index", OnnxTensor.INT64, ["n"])],
        [helper.make_tensor_value_info("y", OnnxTensor.FLOAT, ["n"])],
        [_constant("table", [0, 10, 20, 30], np.float32)],
    )


def sentiment_graph() -> onnx.GraphProto:
    """probability = softmax(sum of the words' weights); the padding weighs nothing."""
    weights = np.zeros((len(WORDS) + 2, 2), np.float32)
    weights[2 + WORDS.index("good")] = (-2, 2)
    weights[2 + WORDS.index("bad")] = (2, -2)
    return helper.make_graph(
        [
            helper.make_node("Gather", ["weights", "token_ids"], ["embedded"]),
            helper.make_node("ReduceSum", ["embedded", "axis"], ["logits"], keepdims=0),
            helper.make_node("Softmax", ["logits"], ["probability"], axis=-1),
        ],
        "sentiment",
        [helper.make_tensor_value_info("token_ids", OnnxTensor.INT32, ["n", "t"])],
        [helper.make_tensor_value_info("probability", OnnxTensor.FLOAT, ["n", 2])],
        [_constant("weights", weights, np.float32), _constant("axis", [1], np.int64)],
    )


def face_graph() -> onnx.GraphProto:
    """embedding = an image's mean in each of 128 places; threshold = 0.5 and 0.25."""
    return helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["values"], to=OnnxTensor.FLOAT),
            helper.make_node("ReduceMean", ["values", "pixels"], ["mean"], keepdims=0),
            helper.make_node("Unsqueeze", ["mean", "last"], ["column"]),
            helper.make_node("Mul", ["column", "ones"], ["embedding"]),
            helper.make_node("Mul", ["column", "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "thresholds"], ["threshold"]),
        ],
        "face",
        [helper.make_tensor_value_info("image", OnnxTensor.UINT8, ["n", "h", "w", 3])],
        [
            helper.make_tensor_value_info("embedding", OnnxTensor.FLOAT, ["n", 128]),
            helper.make_tensor_value_info("threshold", OnnxTensor.FLOAT, ["n", 2]),
        ],
        [
            _constant("pixels", [1, 2, 3], np.int64),
            _constant("last", [1], np.int64),
            _constant("ones", np.ones((1, 128)), np.float32),
            _constant("zero", 0, np.float32),
            _constant("thresholds", [[0.5, 0.25]], np.float32),
        ],
    )


def slow_graph() -> onnx.GraphProto:
    """y = x after x[0] rounds of work (each a product of two 200 x 200 matrices)."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("MatMul", ["state", "matrix"], ["next"]),
        ],
        "round",
        [
            helper.make_tensor_value_info("round", OnnxTensor.INT64, []),
            helper.make_tensor_value_info("go", OnnxTensor.BOOL, []),
            helper.make_tensor_value_info("state", OnnxTensor.FLOAT, [200, 200]),
        ],
        [
            helper.make_tensor_value_info("go_on", OnnxTensor.BOOL, []),
            helper.make_tensor_value_info("next", OnnxTensor.FLOAT, [200, 200]),
        ],
    )
    return helper.make_graph(
        [
            helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
            helper.make_node("Cast", ["largest"], ["rounds"], to=OnnxTensor.INT64),
            helper.make_node("Loop", ["rounds", "true", "start"], ["last"], body=body),
            helper.make_node("ReduceMax", ["last"], ["any"], keepdims=0),
            helper.make_node("Mul", ["any", "zero"], ["nothing"]),
            helper.make_node("Add", ["x", "nothing"], ["y"]),
        ],
        "slow",
        [helper.make_tensor_value_info("x", OnnxTensor.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", OnnxTensor.FLOAT, ["n"])],
        [
            _constant("true", True, np.bool_),
            _constant("zero", 0, np.float32),
            _constant("start", np.eye(200), np.float32),
            _constant("matrix", np.eye(200), np.float32),
        ],
    )
