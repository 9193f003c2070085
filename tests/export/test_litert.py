import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from export.formats import FormatError
from export.litert import write_litert, write_litert_dynamic, write_litert_int8
from export.litert_modules import SignatureModule


@pytest.fixture(scope="module")
def matrix():
    """A module that multiplies by a matrix large enough to be worth rounding."""
    weights = np.random.default_rng(5).normal(size=(64, 32)).astype(np.float32)

    def tensors(x):
        return {"y": tf.matmul(x, weights)}

    return SignatureModule("tensors", tensors, [tf.TensorSpec([None, 64], tf.float32, "x")])


def answer(path, x):
    return Interpreter(str(path)).get_signature_runner("tensors")(x=x)["y"]


def test_a_file_answers_as_its_module(matrix, tmp_path):
    x = np.random.default_rng(6).normal(size=(3, 64)).astype(np.float32)
    write_litert(matrix, tmp_path / "model.tflite")
    np.testing.assert_allclose(
        answer(tmp_path / "model.tflite", x), matrix.tensors(x)["y"], atol=1e-4
    )


def test_rounded_weights_make_a_smaller_file(matrix, tmp_path):
    x = np.random.default_rng(6).normal(size=(3, 64)).astype(np.float32)
    full, rounded = tmp_path / "model.tflite", tmp_path / "model.int8.tflite"
    write_litert(matrix, full)
    write_litert_dynamic(matrix, rounded)
    assert rounded.stat().st_size < full.stat().st_size
    np.testing.assert_allclose(answer(rounded, x), answer(full, x), atol=0.5)


def test_operators_that_only_tensorflow_has_are_named(tmp_path):
    module = SignatureModule(
        "tensors",
        lambda x: {"y": tf.strings.length(tf.strings.upper(x))},
        [tf.TensorSpec([None], tf.string, "x")],
    )
    with pytest.raises(FormatError, match="StringUpper"):
        write_litert(module, tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


def test_int8_needs_images(matrix, tmp_path):
    with pytest.raises(FormatError, match="no images to calibrate on"):
        write_litert_int8(matrix, tmp_path / "model.int8.tflite", [], {})
