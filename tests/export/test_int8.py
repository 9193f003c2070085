"""Int8 graphs: smaller, whole, and close to what they were made of."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

pytest.importorskip("onnxruntime")

import onnxruntime as ort

from export.__main__ import main
from export.int8 import quantize_version, quantize_weights
from protocol.errors import DataLossError
from protocol.version_folder import ONNX_FILE, Manifest, ServingTuning, verify_files
from tests.bench.tiny_model import publish_tiny_model

SIZE = 64


@pytest.fixture
def matrix():
    return np.random.default_rng(1).normal(size=(SIZE, SIZE)).astype(np.float32)


@pytest.fixture
def graph(matrix, tmp_path):
    """A file with one product of the input and a constant matrix."""
    value = helper.make_tensor_value_info
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "matrix"], ["y"], name="product")],
            "product",
            [value("x", TensorProto.FLOAT, ["N", SIZE])],
            [value("y", TensorProto.FLOAT, ["N", SIZE])],
            [helper.make_tensor("matrix", TensorProto.FLOAT, matrix.shape, matrix.ravel())],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    onnx.save(model, tmp_path / "float.onnx")
    return tmp_path / "float.onnx"


def test_products_stay_close(graph, matrix, tmp_path):
    quantize_weights(graph, tmp_path / "int8.onnx")
    x = np.random.default_rng(2).normal(size=(5, SIZE)).astype(np.float32)
    session = ort.InferenceSession(tmp_path / "int8.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(["y"], {"x": x})
    np.testing.assert_allclose(found, x @ matrix, atol=0.3)
    assert not np.allclose(found, x @ matrix, atol=1e-4)
    assert (tmp_path / "int8.onnx").stat().st_size < 0.6 * graph.stat().st_size


def test_a_version_is_whole_and_says_nothing_that_was_measured_on_floats(tmp_path, capsys):
    publish_tiny_model(tmp_path)
    folder, out = tmp_path / "sentiment" / "1", tmp_path / "int8"
    replace(Manifest.read(folder), tuning=ServingTuning(2, 16, True)).write(folder)
    assert main(["quantize", str(folder), "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    manifest = verify_files(out)
    assert ONNX_FILE in manifest.files
    assert manifest.parity == {}
    assert manifest.tuning is None
    assert (out / "assets").is_dir()


def test_refusals(tmp_path):
    publish_tiny_model(tmp_path)
    folder = tmp_path / "sentiment" / "1"
    with pytest.raises(ValueError, match="not empty"):
        quantize_version(folder, tmp_path)
    (folder / ONNX_FILE).write_bytes(b"damaged")
    with pytest.raises(DataLossError):
        quantize_version(folder, tmp_path / "out")
