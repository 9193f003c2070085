from dataclasses import replace

import keras
import numpy as np
import pytest

from models.segmentation.config import TINY, NetworkConfig
from models.segmentation.network import (
    Enlarge,
    MirrorPad,
    ScaleIntensity,
    build_network,
    mirrored,
)

SMALL = {"filters": (8, 8, 8), "repeats": (1, 1, 1), "decoder_convs": 1}
SHAPES = {
    "double_conv": NetworkConfig(**SMALL),
    "log": NetworkConfig(**SMALL, intensity="log", dropout=0.1),
    "residual": NetworkConfig(encoder="residual", stem_stride=2, **SMALL),
    "inverted": NetworkConfig(encoder="inverted", activation="relu6", **SMALL),
}


def images(height, width, rows=1):
    random = np.random.default_rng(0)
    return random.integers(0, 256, (rows, height, width, 3)).astype(np.uint8)


@pytest.fixture(scope="module", params=SHAPES)
def network(request):
    return build_network(SHAPES[request.param], 3)


@pytest.mark.parametrize("size", [(32, 32), (17, 30), (1, 1), (3, 50)])
def test_logits_have_the_size_of_the_image(network, size):
    logits = network(images(*size, rows=2), training=False)["logits"]
    assert logits.shape == (2, *size, 3)
    assert np.isfinite(np.asarray(logits)).all()


@pytest.mark.parametrize("size", [(7, 10), (8, 8), (1, 3), (2, 5)])
def test_padding_mirrors_as_numpy_does(size):
    image = images(*size)
    found = np.asarray(MirrorPad(8)(image))
    added = [(0, -side % 8) for side in size]
    # NumPy mirrors one pixel into nothing but copies of it, as we do.
    expected = np.pad(image, [(0, 0), *added, (0, 0)], mode="reflect")
    np.testing.assert_array_equal(found, expected)


def test_padding_changes_only_what_is_cut_off_again():
    network = build_network(TINY.network, 2)
    image = images(30, 22)
    padded = np.pad(image, [(0, 0), (0, 2), (0, 2), (0, 0)], mode="reflect")
    found = np.asarray(network(image, training=False)["logits"])
    expected = np.asarray(network(padded, training=False)["logits"])[:, :30, :22]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_intensities():
    image = np.array([0, 255, 51], np.uint8).reshape(1, 1, 1, 3)
    linear = np.asarray(ScaleIntensity("linear")(image)).ravel()
    np.testing.assert_allclose(linear, [-1, 1, -0.6], atol=1e-6)
    both = np.asarray(ScaleIntensity("log")(image)).ravel()
    np.testing.assert_allclose(both[:3], linear, atol=1e-6)
    by_hand = 2 * np.log(1 + 0.2 / 0.02) / np.log(1 + 1 / 0.02) - 1
    np.testing.assert_allclose(both[3:], [-1, 1, by_hand], atol=1e-6)


def test_decoder_may_be_narrower_than_the_encoder():
    wide = build_network(TINY.network, 2)
    narrow = build_network(replace(TINY.network, decoder_filters=(4, 8)), 2)
    assert narrow.count_params() < wide.count_params()


@pytest.mark.parametrize("factor", [2, 3])
def test_enlarging_as_keras_does(factor):
    features = np.random.default_rng(0).random((2, 3, 5, 2)).astype(np.float32)
    expected = keras.layers.UpSampling2D(factor, interpolation="bilinear")(features)
    found = np.asarray(Enlarge(factor)(features))
    np.testing.assert_allclose(found, np.asarray(expected), atol=1e-6)


@pytest.mark.parametrize("size", [(32, 32), (21, 40)])
def test_a_mirrored_network_averages_the_answers_for_mirror_images(size):
    network = build_network(TINY.network, 3)
    image = np.random.default_rng(3).integers(0, 256, (2, *size, 3), dtype=np.uint8)

    def logits(pixels):
        return keras.ops.convert_to_numpy(network(pixels)["logits"])

    expected = np.mean(
        [
            logits(image),
            logits(image[:, ::-1])[:, ::-1],
            logits(image[:, :, ::-1])[:, :, ::-1],
            logits(image[:, ::-1, ::-1])[:, ::-1, ::-1],
        ],
        axis=0,
    )
    averaged = mirrored(network)
    found = keras.ops.convert_to_numpy(averaged(image)["logits"])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    of_mirror_image = keras.ops.convert_to_numpy(averaged(image[:, ::-1])["logits"])
    np.testing.assert_allclose(of_mirror_image[:, ::-1], found, atol=1e-5)
    assert [w.path for w in averaged.weights] == [w.path for w in network.weights]
