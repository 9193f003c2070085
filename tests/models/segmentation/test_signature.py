import io
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from models.segmentation.config import TINY
from models.segmentation.network import build_network
from models.segmentation.signature import load_model, make_module, probability_in_tiles
from models.segmentation.synthetic import make_example
from protocol.images import encode_png
from protocol.tiling import Tiling, predict_tiled

SIZES = ((64, 64), (1, 1), (5, 40), (130, 75), (64, 65))


def image(height, width, seed=0):
    return make_example(np.random.default_rng(seed), "x", height, width).image


@pytest.fixture(scope="module")
def module(tiny_segmentation_model):
    return make_module(tiny_segmentation_model)


def masks_of(outputs):
    return [np.asarray(Image.open(io.BytesIO(png))) for png in outputs["mask_png"]]


def test_files_of_mixed_sizes_come_back_in_their_own_size(tiny_segmentation_model, module):
    files = np.array([encode_png(image(*size)) for size in SIZES], dtype=object)
    of_keras = tiny_segmentation_model.run_signature({"image_bytes": files})
    of_graph = {name: value.numpy() for name, value in module.serving_default(files).items()}
    assert set(of_keras) == set(of_graph) == {"mask_png", "width", "height", "class_names"}
    for outputs in (of_keras, of_graph):
        assert list(zip(outputs["height"], outputs["width"], strict=True)) == list(SIZES)
        assert [mask.shape for mask in masks_of(outputs)] == list(SIZES)
        assert outputs["class_names"].tolist() == [[b"background", b"nucleus"]] * len(SIZES)
    for a, b in zip(masks_of(of_keras), masks_of(of_graph), strict=True):
        assert np.mean(a != b) < 1e-3


def test_no_files_no_masks(module):
    outputs = module.serving_default(tf.constant([], tf.string))
    assert {name: value.shape[0] for name, value in outputs.items()} == dict.fromkeys(outputs, 0)


@pytest.mark.parametrize("size", [(5, 40), (130, 75)])
def test_pixels_and_probability(tiny_segmentation_model, module, size):
    images = np.stack([image(*size), image(*size, seed=1)])
    expected = tiny_segmentation_model.probability(images)
    outputs = module.probability(images)
    np.testing.assert_allclose(outputs["probability"], expected, atol=1e-4)
    np.testing.assert_allclose(expected.sum(axis=-1), 1.0, rtol=1e-4)
    mask = np.asarray(module.tensors(images)["mask"])
    np.testing.assert_array_equal(mask, np.asarray(outputs["mask"]))
    assert mask.dtype == np.uint8
    assert np.mean(mask != expected.argmax(axis=-1)) < 1e-3


def colour_of_place(images):
    """A stand-in for a network that says of each pixel what it is, whatever is around it."""
    share = images[..., 0] / np.float32(255)
    return np.stack([share, 1 - share], axis=-1)


@pytest.mark.parametrize("size", [(64, 64), (65, 10), (10, 150), (200, 131)])
def test_tiles_of_the_graph_are_those_of_the_host(size):
    tiling = Tiling(64, 16)
    images = np.random.default_rng(1).integers(0, 256, (2, *size, 3)).astype(np.uint8)
    seen = []

    def by_tile(tile):
        """Adds something that differs from tile to tile."""
        seen.append(tile.shape)
        return colour_of_place(tile) + tile.mean(dtype=np.float32)

    expected = predict_tiled(images, tiling, by_tile)
    tiles = list(seen)
    found = probability_in_tiles(
        tf.constant(images),
        tiling,
        lambda tile: tf.numpy_function(by_tile, [tile], tf.float32),
        classes=2,
    )
    assert seen[len(tiles) :] == tiles
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_shipped_half_precision_is_read(tiny_segmentation_model, tmp_path):
    from models.common.commands import ship

    ship(tiny_segmentation_model, tiny_segmentation_model.network, tmp_path / "weights")
    loaded = load_model(tmp_path / "weights")
    pixels = image(40, 40)[None]
    np.testing.assert_allclose(
        loaded.probability(pixels), tiny_segmentation_model.probability(pixels), atol=0.02
    )
    assert loaded.details == tiny_segmentation_model.details


def test_more_classes_and_a_stem_of_two(tiny_segmentation_model):
    labels = tuple("abcde")
    network = replace(TINY.network, encoder="residual", stem_stride=2)
    config = replace(TINY, labels=labels, network=network)
    model = replace(
        tiny_segmentation_model, config=config, network=build_network(network, len(labels))
    )
    module = make_module(model)
    outputs = module.probability(image(30, 70)[None])
    assert outputs["probability"].shape == (1, 30, 70, 5)
    assert outputs["class_names"].shape == (1, 5)
