import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from export import face
from export.onnx_graph import count_operators
from export.parity import ParityError
from export.version import export_version
from models.common.backends import OnnxBackend, SavedModelBackend
from models.face.augmentation import center_crop, to_network_values
from models.face.config import NetworkConfig
from protocol.contracts import FACE, check_signature, signature_spec
from protocol.messages import SignatureDef
from protocol.tensors import to_ndarray
from protocol.version_folder import WARMUP_FILE
from protocol.warmup import read_warmup


@pytest.fixture(scope="module")
def model(face_model):
    return face_model


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("face") / "1"
    return folder, export_version(
        "face", model, folder, ("saved_model", "onnx"), face.sample_examples()
    )


def test_both_engines_were_compared_with_keras(exported):
    _, manifest = exported
    assert set(manifest.parity) == {"saved_model", "onnx"}
    for parity in manifest.parity.values():
        assert parity["max_difference"] <= face.TOLERANCE
        assert parity["examples"] == len(face.sample_examples())


def test_the_manifest_carries_the_thresholds(exported, model):
    _, manifest = exported
    assert manifest.pipeline == {"thresholds": model.thresholds}
    assert manifest.task == "face"


def test_the_graph_takes_any_size_and_any_number(exported, model):
    folder, _ = exported
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    random = np.random.default_rng(0)
    for shape in [(1, 30, 40, 3), (5, 64, 64, 3), (2, 1, 1, 3), (3, 301, 200, 3)]:
        images = random.integers(0, 256, shape).astype(np.uint8)
        found = session.run(["embedding"], {"image": images})[0]
        values = np.stack([to_network_values(image, model.config.network) for image in images])
        expected = np.asarray(model.network(values)["embedding"])
        np.testing.assert_allclose(found, expected, atol=face.TOLERANCE)


def test_the_graph_has_the_named_tensors_and_no_loop(exported):
    graph = onnx.load(exported[0] / "model.onnx")
    assert [value.name for value in graph.graph.input] == ["image"]
    assert [value.name for value in graph.graph.output] == ["embedding", "threshold"]
    assert count_operators(graph, "Loop") == 0
    assert count_operators(graph, "Resize") == 1
    assert graph.opset_import[0].version == 18


@pytest.mark.parametrize("central", [1.0, 0.85, 0.333])
@pytest.mark.parametrize("size", [(96, 96), (57, 90), (200, 133), (1, 5)])
def test_the_crop_is_that_of_the_host(central, size):
    image = np.random.default_rng(1).integers(0, 256, (1, *size, 3)).astype(np.uint8)
    model = face.crop_graph(central, 48)
    model.ir_version = 9
    session = onnxruntime.InferenceSession(model.SerializeToString())
    found = session.run(None, {"image": image})[0]
    config = NetworkConfig(image_size=48, central=central)
    np.testing.assert_allclose(found[0], to_network_values(image[0], config), atol=1e-2)
    assert center_crop(image[0], central).shape[0] <= min(size)


def test_saved_model_keeps_the_contract_with_stock_operators(exported):
    saved = SavedModel.FromString((exported[0] / "saved_model.pb").read_bytes()).meta_graphs[0]
    for expected in FACE.signatures:
        official = saved.signature_def[expected.name]
        definition = SignatureDef.FromString(official.SerializeToString())
        check_signature(expected, signature_spec(expected.name, definition))
    functions = saved.graph_def.library.function
    operators = {node.op for function in functions for node in function.node_def}
    library = {function.signature.name for function in functions}
    known = {name for name in dir(tf.raw_ops) if not name.startswith("_")}
    assert sorted(operators - known - library) == []
    assert not [name for name in operators if "PyFunc" in name]


@pytest.mark.parametrize("engine", [SavedModelBackend, OnnxBackend])
def test_every_warm_up_request_has_an_answer(exported, engine):
    folder, _ = exported
    requests = [log.predict_log.request for log in read_warmup(folder / WARMUP_FILE)]
    names = {request.model_spec.signature_name for request in requests}
    backends = {name: engine(folder, name) for name in names}
    for request in requests:
        backend = backends[request.model_spec.signature_name]
        inputs = {name: to_ndarray(proto) for name, proto in request.inputs.items()}
        found = backend.run_signature(inputs)["embedding"]
        assert found.shape == (len(next(iter(inputs.values()))), 128)


def test_an_engine_that_answers_otherwise_is_refused(model):
    class Other:
        def run_signature(self, inputs):
            return {"embedding": -model.run_signature(inputs)["embedding"]}

    with pytest.raises(ParityError, match="outputs differ from Keras"):
        face.compare(model, Other(), "other", face.sample_examples())


def test_examples_of_a_folder_are_its_default_split(model, tmp_path):
    for example in face.sample_examples()[:12]:
        path = tmp_path / f"{example.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(example.pixels()).save(path)
    assert len(face.load_examples(tmp_path, model)) == 12
