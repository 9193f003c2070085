import io
from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from export import FORMATS
from export.onnx_graph import count_operators
from export.parity import ParityError
from export.segmentation import compare, sample_examples, warmup_requests
from export.version import export_version
from models.common.backends import OnnxBackend, SavedModelBackend
from models.segmentation.evaluate import image_bytes
from models.segmentation.network import mirrored
from models.segmentation.signature import load_model
from models.segmentation.synthetic import make_example
from protocol.contracts import SEGMENTATION, check_signature, signature_spec
from protocol.messages import SignatureDef
from protocol.tensors import to_ndarray

SIZES = ((64, 64), (1, 1), (7, 40), (130, 75))


@pytest.fixture(scope="module")
def model(tiny_segmentation_run):
    """The trained U-Net, which averages over mirror images; training knows nothing of that."""
    plain = load_model(tiny_segmentation_run)
    config = replace(plain.config, mirrored=True)
    return replace(plain, config=config, network=mirrored(plain.network))


@pytest.fixture(scope="module")
def version(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmentation") / "version"
    manifest = export_version("segmentation", model, folder, FORMATS, sample_examples())
    assert set(manifest.parity) == set(FORMATS)
    assert manifest.pipeline == {"tile": 64, "overlap": 16}
    assert manifest.labels == ("background", "nucleus")
    return folder


@pytest.fixture(scope="module", params=FORMATS)
def backend_of(request, version):
    """Opens a signature of one engine, once."""
    kind = SavedModelBackend if request.param == "saved_model" else OnnxBackend
    return cache(lambda signature: kind(version, signature))


def examples():
    random = np.random.default_rng(2)
    return [make_example(random, f"{h}x{w}", h, w) for h, w in SIZES]


def test_files_of_mixed_sizes_are_answered_as_by_keras(backend_of, model):
    inputs = {"image_bytes": np.array([image_bytes(e) for e in examples()], dtype=object)}
    expected = model.run_signature(inputs)
    found = backend_of("serving_default").run_signature(inputs)
    assert set(found) == set(expected)
    for name in ("width", "height", "class_names"):
        np.testing.assert_array_equal(found[name], expected[name])
    for a, b in zip(found["mask_png"], expected["mask_png"], strict=True):
        first, second = (np.asarray(Image.open(io.BytesIO(png))) for png in (a, b))
        assert first.dtype == np.uint8
        assert np.mean(first != second) < 1e-3


@pytest.mark.parametrize("size", [(7, 40), (130, 75)])
def test_pixels_are_answered_as_by_keras(backend_of, model, size):
    random = np.random.default_rng(3)
    images = np.stack([make_example(random, "x", *size).image for _ in range(3)])
    expected = model.probability(images)
    found = backend_of("probability").run_signature({"image": images})
    np.testing.assert_allclose(found["probability"], expected, atol=1e-4)
    mask = backend_of("tensors").run_signature({"image": images})["mask"]
    np.testing.assert_array_equal(mask, found["mask"])
    assert np.mean(mask != expected.argmax(axis=-1)) < 1e-3


def test_saved_model_keeps_the_contract_with_stock_operators(version):
    saved = SavedModel.FromString((version / "saved_model.pb").read_bytes()).meta_graphs[0]
    for expected in SEGMENTATION.signatures:
        official = saved.signature_def[expected.name]
        definition = SignatureDef.FromString(official.SerializeToString())
        check_signature(expected, signature_spec(expected.name, definition))
    functions = saved.graph_def.library.function
    operators = {node.op for function in functions for node in function.node_def}
    library = {function.signature.name for function in functions}
    known = {name for name in dir(tf.raw_ops) if not name.startswith("_")}
    assert sorted(operators - known - library) == []
    assert not [name for name in operators if "PyFunc" in name]


def test_onnx_takes_any_size_without_loops(version):
    graph = onnx.load(version / "model.onnx")
    assert count_operators(graph, "Loop") == 0
    assert [value.name for value in graph.graph.input] == ["image"]
    assert [value.name for value in graph.graph.output] == ["mask", "probability"]
    session = onnxruntime.InferenceSession(version / "model.onnx")
    for size in ((1, 1), (5, 200), (33, 31)):
        mask, probability = session.run(None, {"image": np.zeros((2, *size, 3), np.uint8)})
        assert mask.shape == (2, *size)
        assert mask.dtype == np.uint8
        assert probability.shape == (2, *size, 2)


def test_an_engine_that_answers_otherwise_does_not_pass(model):
    class Inverted:
        def run_signature(self, inputs):
            found = model.run_signature(inputs)
            masks = [np.asarray(Image.open(io.BytesIO(png))) for png in found["mask_png"]]
            files = []
            for mask in masks:
                stream = io.BytesIO()
                Image.fromarray(1 - mask).save(stream, "png")
                files.append(stream.getvalue())
            return {**found, "mask_png": np.array(files, dtype=object)}

    with pytest.raises(ParityError, match="inverted: outputs differ"):
        compare(model, Inverted(), "inverted", examples())


def test_warm_up_calls_every_signature():
    requests = warmup_requests("cells")
    assert {r.model_spec.signature_name for r in requests} == {
        signature.name for signature in SEGMENTATION.signatures
    }
    assert {r.model_spec.name for r in requests} == {"cells"}
    for request in requests:
        (value,) = request.inputs.values()
        assert len(to_ndarray(value)) >= 1
