"""Two models that anyone serves, with random weights: a text classifier and an image embedder.

Each is written twice into a version folder, as model.onnx and as a SavedModel of equal weights.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LIGHT, TOKENS, WORDS, UNITS = "light", 64, 1000, 32
EMBEDDER, SIDE, EMBEDDING = "embedder", 112, 128

Array = np.ndarray[Any, Any]


def write_light(folder: Path) -> None:
    """Writes token_ids int32 [N, 64] -> probability float32 [N, 2]: embedding, GRU, dense."""
    weights = light_weights()
    onnx.save(light_onnx(weights), folder / "model.onnx")
    _write_saved_model(light_keras(weights), "token_ids", "probability", folder)


def write_embedder(folder: Path) -> None:
    """Writes image float32 [N, 112, 112, 3] -> embedding float32 [N, 128]: MobileNetV2, dense."""
    import tensorflow as tf

    from export.onnx_graph import from_tensorflow

    model = embedder_keras()
    inputs = {"image": tf.TensorSpec((None, SIDE, SIDE, 3), tf.float32)}
    onnx.save(
        from_tensorflow(lambda image: model(image), inputs, ["embedding"]), folder / "model.onnx"
    )
    _write_saved_model(model, "image", "embedding", folder)


WRITERS: Mapping[str, Callable[[Path], None]] = {LIGHT: write_light, EMBEDDER: write_embedder}


def request(name: str) -> dict[str, Array]:
    """Returns the inputs of one row of a small model."""
    random = np.random.default_rng(0)
    if name == LIGHT:
        return {"token_ids": random.integers(0, WORDS, (1, TOKENS)).astype(np.int32)}
    return {"image": random.random((1, SIDE, SIDE, 3)).astype(np.float32)}


def light_weights() -> dict[str, Array]:
    """Draws the classifier's weights; kernels are [inputs, gates x units], gates z, r, h."""
    random = np.random.default_rng(0)
    weights = {
        "embedding": random.normal(0, 0.1, (WORDS, UNITS)),
        "kernel": random.normal(0, 0.2, (UNITS, 3 * UNITS)),
        "recurrence": random.normal(0, 0.2, (UNITS, 3 * UNITS)),
        "bias": random.normal(0, 0.1, (2, 3 * UNITS)),
        "dense": random.normal(0, 0.3, (UNITS, 2)),
        "dense_bias": np.zeros(2),
    }
    return {name: values.astype(np.float32) for name, values in weights.items()}


def light_onnx(weights: Mapping[str, Array]) -> onnx.ModelProto:
    """Builds the classifier of ONNX's own operators."""
    laid_out = {
        **weights,
        "kernel": weights["kernel"].T[None],  # [directions, gates x units, inputs]
        "recurrence": weights["recurrence"].T[None],
        "bias": weights["bias"].reshape(1, -1),
        "first": np.array([0], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Gather", ["embedding", "token_ids"], ["vectors"]),
        node("Transpose", ["vectors"], ["by_time"], perm=[1, 0, 2]),
        node("GRU", ["by_time", "kernel", "recurrence", "bias"], ["", "last"],
             hidden_size=UNITS, linear_before_reset=1),
        node("Squeeze", ["last", "first"], ["state"]),
        node("Gemm", ["state", "dense", "dense_bias"], ["logits"]),
        node("Softmax", ["logits"], ["probability"], axis=-1),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        LIGHT,
        [helper.make_tensor_value_info("token_ids", TensorProto.INT32, ["N", TOKENS])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(np.ascontiguousarray(v), n) for n, v in laid_out.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def light_keras(weights: Mapping[str, Array]) -> Any:
    """Builds the classifier as a Keras model."""
    import keras

    model = keras.Sequential(
        [
            keras.Input((TOKENS,), dtype="int32"),
            keras.layers.Embedding(WORDS, UNITS),
            keras.layers.GRU(UNITS),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.set_weights(list(weights.values()))
    return model


def embedder_keras() -> Any:
    """Builds MobileNetV2 without its classifier, average pooling and one linear map."""
    import keras

    keras.utils.set_random_seed(0)
    image = keras.Input((SIDE, SIDE, 3), dtype="float32")
    features = keras.applications.MobileNetV2(
        input_tensor=image, include_top=False, weights=None, pooling="avg"
    ).output  # [N, 1280]
    return keras.Model(image, keras.layers.Dense(EMBEDDING)(features))


def _write_saved_model(model: Any, input_name: str, output_name: str, folder: Path) -> None:
    import tensorflow as tf

    tensor = model.inputs[0]
    spec = tf.TensorSpec(tensor.shape, tensor.dtype, name=input_name)
    serve = tf.function(lambda value: {output_name: model(value)}, input_signature=[spec])
    tf.saved_model.save(model, str(folder), signatures=serve)
