"""What is written anew for LiteRT, against the layers and images it stands for."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from export.formats import FormatError
from export.litert_modules import LstmWeights, detection_module, read_in_turn, resize
from models.common.run_folder import RunFolder
from models.detection.config import TINY
from models.detection.network import build_network
from models.detection.signature import DetectionModel


@pytest.mark.parametrize("size", [(64, 96), (480, 640), (31, 50), (3, 200), (1, 1)])
def test_images_are_resized_as_tensorflow_does(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    expected = tf.image.resize(image, (40, 56), antialias=True)
    found = resize(tf.constant(image), tf.constant([40.0, 56.0]), 40, 56)
    np.testing.assert_allclose(found[0], expected, atol=2e-3)


def test_what_lies_beyond_the_image_is_zero():
    image = tf.fill([10, 20, 3], tf.constant(200, tf.uint8))
    found = resize(image, tf.constant([5.0, 10.0]), 8, 12)[0].numpy()
    np.testing.assert_allclose(found[:5, :10], 200, atol=1e-3)
    assert not found[5:].any()
    assert not found[:, 10:].any()


@pytest.mark.parametrize("words", [1, 7])
def test_the_loop_reads_as_the_layer(words):
    keras.utils.set_random_seed(3)
    layer = keras.layers.LSTM(6, return_sequences=True)
    vectors = np.random.default_rng(1).normal(size=(1, words, 4)).astype(np.float32)
    expected = layer(vectors)
    layer.set_weights([w + 0.1 for w in layer.get_weights()])
    expected = layer(vectors)
    found = read_in_turn(LstmWeights.of(layer), tf.constant(vectors[0]))
    np.testing.assert_allclose(found, expected[0], atol=1e-6)


def test_other_layers_are_refused():
    layer = keras.layers.GRU(6)
    layer.build((None, None, 4))
    with pytest.raises(FormatError, match="GRU"):
        LstmWeights.of(layer)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """An untrained network whose scores are spread, so that boxes are found and overlap."""
    keras.utils.set_random_seed(0)
    network, random = build_network(TINY), np.random.default_rng(0)
    for stride in (8, 16, 32):
        for part, shift in (("objectness", 4), ("class", 0)):
            layer = network.get_layer(f"head{stride}_{part}")
            kernel, bias = layer.get_weights()
            layer.set_weights([random.normal(0, 1, kernel.shape), bias + shift])
    run = RunFolder(tmp_path_factory.mktemp("run"))
    return DetectionModel(TINY, network, run, {"labels": list(TINY.labels)})


@pytest.mark.parametrize("size", [(64, 64), (97, 50), (30, 120)])
def test_detections_are_those_of_keras(detector, size):
    image = np.random.default_rng(5).integers(0, 256, (*size, 3)).astype(np.uint8)
    thresholds = {"score_threshold": 0.2, "iou_threshold": 0.4}
    (expected,) = detector.detect([image], **thresholds)
    found = detection_module(detector).tensors(
        image[None], *(tf.constant(value) for value in thresholds.values())
    )
    count = int(found["num_detections"][0])
    assert count == len(expected) > 0
    np.testing.assert_array_equal(found["class_ids"][0, :count], expected.class_ids)
    np.testing.assert_allclose(found["scores"][0, :count], expected.scores, atol=1e-4)
    np.testing.assert_allclose(found["boxes_xyxy"][0, :count], expected.boxes_xyxy, atol=0.05)
    assert (found["class_ids"][0, count:].numpy() == -1).all()
