import json

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

from export.detection import (
    Example,
    compare,
    letterbox_model,
    model_to_export,
    pair_detections,
    pipeline_parameters,
    sample_examples,
    suppression_model,
    warmup_requests,
    write_assets,
    write_onnx,
    write_saved_model,
)
from export.onnx_graph import count_operators
from export.parity import ParityError
from models.common.backends import SavedModelBackend
from models.common.run_folder import RunFolder
from models.detection.config import TINY
from models.detection.letterbox import Letterbox, place
from models.detection.network import build_network
from models.detection.nms import Detections, select
from models.detection.signature import DetectionModel, scale_image
from protocol.contracts import DETECTION, TENSORS
from protocol.graphs import SessionGraph
from protocol.image_pipelines import ImagePipeline
from protocol.tensors import to_ndarray

K = TINY.max_detections


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained TINY network, whose scores are spread by hand so that boxes are found."""
    keras.utils.set_random_seed(0)
    network = build_network(TINY)
    random = np.random.default_rng(0)
    for stride in (8, 16, 32):
        layer = network.get_layer(f"head{stride}_objectness")
        kernel, bias = layer.get_weights()
        layer.set_weights([random.normal(0, 1, kernel.shape), bias + 4])
        layer = network.get_layer(f"head{stride}_class")
        kernel, bias = layer.get_weights()
        layer.set_weights([random.normal(0, 1, kernel.shape), bias])
    run = RunFolder(tmp_path_factory.mktemp("run"))
    return DetectionModel(TINY, network, run, {"labels": list(TINY.labels)})


class Graph:
    """An ONNX file answering `serving_default`, as the embedded server does."""

    def __init__(self, path):
        self.session = onnxruntime.InferenceSession(path)
        self.pipeline = ImagePipeline(DETECTION.signatures[0])

    def run_signature(self, inputs):
        prepared = self.pipeline.prepare(inputs)
        graph = SessionGraph(self.session)
        outputs = self.pipeline.run(graph, self.pipeline.merge([prepared]))
        return self.pipeline.finish(outputs, prepared)


@pytest.fixture(scope="module")
def onnx_file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(model, path)
    return path


@pytest.fixture(scope="module")
def graph(onnx_file):
    return Graph(onnx_file)


def run(model, outputs, **inputs):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(outputs, inputs)


def test_onnx_answers_as_keras(model, graph):
    parity = compare(model, graph, "onnx", sample_examples())
    assert parity.examples == len(sample_examples())
    assert parity.max_difference < 1e-3
    found = graph.run_signature({"image_bytes": np.array([sample_examples()[0].file], object)})
    assert found["num_detections"][0] > 0


def test_saved_model_answers_as_keras_and_thresholds_are_optional(model, tmp_path):
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    write_saved_model(model, tmp_path)
    assert compare(model, SavedModelBackend(tmp_path), "saved_model", sample_examples())
    saved = SavedModel.FromString((tmp_path / "saved_model.pb").read_bytes())
    for spec in DETECTION.signatures:
        defaults = saved.meta_graphs[0].signature_def[spec.name].defaults
        assert set(defaults) == {"score_threshold", "iou_threshold"}


def test_onnx_thresholds_may_be_left_out(graph, onnx_file):
    session = onnxruntime.InferenceSession(onnx_file)
    assert [node.name for node in session.get_inputs()] == ["image"]
    names = {node.name for node in session.get_overridable_initializers()}
    assert names == {"score_threshold", "iou_threshold"}
    assert [node.name for node in session.get_outputs()] == [
        tensor.name for tensor in DETECTION.signature(TENSORS).outputs
    ]
    data = np.array([example.file for example in sample_examples()], object)
    default = graph.run_signature({"image_bytes": data})
    same = graph.run_signature({"image_bytes": data, "score_threshold": np.array(0.25, np.float32)})
    more = graph.run_signature(
        {"image_bytes": data, "score_threshold": np.array(0.001, np.float32)}
    )
    np.testing.assert_array_equal(default["num_detections"], same["num_detections"])
    assert more["num_detections"].sum() > default["num_detections"].sum()
    strange = graph.run_signature({"image_bytes": data, "iou_threshold": np.array(7, np.float32)})
    assert (strange["num_detections"] >= default["num_detections"]).all()


@pytest.mark.parametrize("size", [(480, 640), (31, 50), (64, 96), (200, 3), (1, 1)])
def test_letterbox_graph_equals_the_reference(size):
    image = np.random.default_rng(0).integers(0, 256, (2, *size, 3)).astype(np.uint8)
    placed, scales, limits = run(
        letterbox_model(64, 96), ["placed", "scales", "limits"], image=image
    )
    letterbox = Letterbox.of(*size, 64, 96)
    np.testing.assert_allclose(scales, letterbox.scales, rtol=1e-6)
    assert limits.tolist() == [size[1], size[0], size[1], size[0]]
    for row in range(2):
        expected = place(scale_image(image[row], letterbox), 64, 96)
        np.testing.assert_allclose(placed[row], expected, atol=0.005)


@pytest.mark.parametrize("seed", range(5))
def test_suppression_graph_equals_the_reference(seed):
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 60, (2, 150, 2))
    boxes = np.concatenate([corners, corners + random.uniform(2, 40, corners.shape)], axis=2)
    boxes, scores = boxes.astype(np.float32), random.random((2, 150, 3)).astype(np.float32)
    defaults = {"score_threshold": np.float32(0.3), "iou_threshold": np.float32(0.4)}
    names = [tensor.name for tensor in DETECTION.signatures[0].outputs]
    outputs = run(
        suppression_model(["a", "b", "c"], K, defaults),
        names,
        boxes=boxes,
        class_scores=scores,
        scales=np.array([0.5, 0.25] * 2, np.float32),
        limits=np.array([150, 300] * 2, np.float32),
    )
    found = dict(zip(names, outputs, strict=True))
    for row in range(2):
        expected = select(boxes[row], scores[row], 0.3, 0.4, K)
        count = len(expected)
        assert found["num_detections"][row] == count
        scaled = expected.boxes_xyxy / np.array([0.5, 0.25] * 2, np.float32)
        clipped = np.clip(scaled, 0, np.array([150, 300] * 2, np.float32))
        np.testing.assert_allclose(found["boxes_xyxy"][row, :count], clipped, rtol=1e-6)
        np.testing.assert_allclose(found["scores"][row, :count], expected.scores)
        np.testing.assert_array_equal(found["class_ids"][row, :count], expected.class_ids)
        assert (found["class_ids"][row, count:] == -1).all()
        assert not found["boxes_xyxy"][row, count:].any()
        names_found = found["labels"][row].tolist()
        assert names_found[:count] == [["a", "b", "c"][i] for i in expected.class_ids]
        assert set(names_found[count:]) <= {""}


def test_graph_is_free_of_loops(onnx_file):
    graph = onnx.load(onnx_file)
    assert count_operators(graph, "Conv") > 10
    assert count_operators(graph, "Loop") == 0


class Altered:
    """The model itself, with its scores or boxes changed."""

    def __init__(self, model, **factors):
        self.model, self.factors = model, factors

    def run_signature(self, inputs):
        outputs = self.model.run_signature(inputs)
        return {name: v * self.factors.get(name, 1) for name, v in outputs.items()} | {
            "labels": outputs["labels"]
        }


@pytest.mark.parametrize("name", ["scores", "boxes_xyxy"])
def test_other_answers_are_refused(model, name):
    with pytest.raises(ParityError, match="have no partner"):
        compare(model, Altered(model, **{name: np.float32(1.1)}), "onnx", sample_examples())


def test_pairs_by_hand():
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30.0]])
    expected = Detections(boxes, np.array([0.9, 0.5]), np.array([0, 1]))
    found = Detections(boxes[::-1] + 0.2, np.array([0.501, 0.9]), np.array([1, 0]))
    pairing = pair_detections(expected, found)
    assert pairing.unpaired == 0
    assert pairing.score_difference == pytest.approx(0.001)
    other_class = Detections(boxes, np.array([0.9, 0.5]), np.array([0, 0]))
    assert pair_detections(expected, other_class).unpaired == 2


def test_assets_parameters_and_warmup(model, tmp_path):
    write_assets(model, tmp_path / "assets")
    assert json.loads((tmp_path / "assets" / "labels.json").read_text()) == ["disc", "square"]
    assert pipeline_parameters(model) == {"score_threshold": 0.25, "iou_threshold": 0.5}
    requests = warmup_requests("cells")
    assert {request.model_spec.name for request in requests} == {"cells"}
    sizes = [len(to_ndarray(request.inputs["image_bytes"])) for request in requests]
    assert sizes == [1, 6, 8]


def test_a_named_run_is_loaded(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        model_to_export(tmp_path, tmp_path)


def test_examples_hold_files_and_labels():
    examples = sample_examples()
    assert all(isinstance(example, Example) for example in examples)
    assert all(example.file.startswith(b"\x89PNG") for example in examples)
    assert sum(len(example.truth.class_ids) for example in examples) > 5
