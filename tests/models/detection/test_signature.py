import numpy as np
import pytest
from PIL import Image

from models.detection.batches import load_sample
from models.detection.data import read_served_bytes
from models.detection.letterbox import place
from models.detection.nms import select
from models.detection.signature import (
    DetectionModel,
    letterbox_in_graph,
    make_module,
    suppress_in_graph,
)
from models.detection.synthetic import make_sample
from protocol.errors import InvalidRequestError
from protocol.images import encode_png

K = 20


@pytest.fixture(scope="module")
def files():
    """Drawn images of four sizes."""
    random = np.random.default_rng(2)
    images = [make_sample(random, side).image_u8 for side in (64, 64, 90, 50)]
    images[3] = images[3][:31]
    data = np.empty(4, dtype=object)
    data[:] = [encode_png(image) for image in images]
    return data


@pytest.fixture(scope="module")
def module(detector: DetectionModel):
    return make_module(detector)


def call(function, first, score=0.5, overlap=0.5):
    import tensorflow as tf

    answers = function(first, tf.constant(score), tf.constant(overlap))
    return {name: value.numpy() for name, value in answers.items()}


def assert_equal(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        if value.dtype == np.float32:
            np.testing.assert_allclose(found[name], value, atol=2e-3, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_answers_have_the_promised_form(detector, files):
    outputs = detector.run_signature({"image_bytes": files})
    shapes = {name: (value.shape, value.dtype) for name, value in outputs.items()}
    assert shapes == {
        "boxes_xyxy": ((4, K, 4), np.float32),
        "scores": ((4, K), np.float32),
        "class_ids": ((4, K), np.int32),
        "labels": ((4, K), object),
        "num_detections": ((4,), np.int32),
    }
    for row, count in enumerate(outputs["num_detections"]):
        assert (outputs["scores"][row, :count] > detector.config.score_threshold).all()
        assert (outputs["class_ids"][row, count:] == -1).all()
        assert (outputs["labels"][row, count:] == b"").all()
        assert not outputs["boxes_xyxy"][row, count:].any()
        names = [detector.labels[i].encode() for i in outputs["class_ids"][row, :count]]
        assert outputs["labels"][row, :count].tolist() == names


def test_thresholds_are_obeyed(detector, files):
    few, many = (
        detector.run_signature({"image_bytes": files, "score_threshold": np.float32(t)})
        for t in (0.6, 0.01)
    )
    assert (few["num_detections"] <= many["num_detections"]).all()
    assert (many["scores"][many["scores"] > 0] > 0.01).all()
    crowded = detector.run_signature(
        {"image_bytes": files, "score_threshold": np.float32(0.01), "iou_threshold": np.float32(1)}
    )
    assert (crowded["num_detections"] >= many["num_detections"]).all()


def test_no_images_and_no_image(detector):
    empty = detector.run_signature({"image_bytes": np.array([], dtype=object)})
    assert empty["boxes_xyxy"].shape == (0, K, 4)
    with pytest.raises(InvalidRequestError, match="image_bytes"):
        detector.run_signature({"image_bytes": np.array([b"no image"], dtype=object)})


@pytest.mark.parametrize("score", [0.25, 0.02])
def test_graph_answers_as_keras(detector, module, files, score):
    expected = detector.run_signature({"image_bytes": files, "score_threshold": np.float32(score)})
    assert_equal(call(module.serving_default, files, score), expected)


def test_pixels_answer_as_bytes(detector, module, shapes):
    images = shapes.splits["dev"][:3]
    data = np.array([read_served_bytes(image.path) for image in images], dtype=object)
    pixels = np.stack([np.asarray(Image.open(image.path)) for image in images])
    expected = detector.run_signature({"image_bytes": data, "score_threshold": np.float32(0.25)})
    assert_equal(call(module.tensors, pixels, 0.25), expected)


def test_graph_takes_an_empty_batch(module):
    found = call(module.serving_default, np.array([], dtype=object))
    assert found["boxes_xyxy"].shape == (0, K, 4)
    assert found["num_detections"].shape == (0,)


def test_graph_scales_as_training_does(detector, shapes):
    import tensorflow as tf

    image = shapes.splits["dev"][0]
    pixels = np.asarray(Image.open(image.path))[:40]
    placed, scales, limits = letterbox_in_graph(tf.constant(pixels), 96, 128)
    assert placed.shape == (96, 128, 3)
    np.testing.assert_allclose(scales, [2, 2, 2, 2])
    np.testing.assert_allclose(limits, [64, 40, 64, 40])
    own = place(load_sample(image, detector.config).image_u8, 64, 64)
    graph, *_ = letterbox_in_graph(tf.constant(np.asarray(Image.open(image.path))), 64, 64)
    np.testing.assert_allclose(graph, own, atol=1)


@pytest.mark.parametrize("seed", range(5))
def test_graph_suppresses_as_the_reference(seed):
    import tensorflow as tf

    random = np.random.default_rng(seed)
    corners = random.uniform(0, 60, (2, 150, 2))
    boxes = np.concatenate([corners, corners + random.uniform(2, 40, corners.shape)], axis=2)
    boxes, scores = boxes.astype(np.float32), random.random((2, 150, 3)).astype(np.float32)
    found = suppress_in_graph(
        tf.constant(boxes), tf.constant(scores), tf.constant(0.3), tf.constant(0.4), K
    )
    for row in range(2):
        expected = select(boxes[row], scores[row], 0.3, 0.4, K)
        count = int(found.valid_detections[row])
        assert count == len(expected)
        np.testing.assert_allclose(found.nmsed_boxes[row, :count], expected.boxes_xyxy)
        np.testing.assert_allclose(found.nmsed_scores[row, :count], expected.scores)
        np.testing.assert_array_equal(found.nmsed_classes[row, :count], expected.class_ids)
