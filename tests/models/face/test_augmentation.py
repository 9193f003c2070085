import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from models.face.augmentation import (
    Augmenter,
    center_crop,
    central_side,
    to_network_values,
)
from models.face.config import TINY, AugmentationConfig, NetworkConfig

SQUARE = np.random.default_rng(0).integers(0, 256, (50, 50, 3)).astype(np.uint8)
CALM = AugmentationConfig(strength=0.0, color=0.0, grey=0.0, blur=0.0, erase=0.0)


@given(st.integers(1, 20_000), st.floats(0.01, 1.0))
def test_the_central_square_is_within_the_picture(shorter, central):
    assert 1 <= central_side(shorter, central) <= shorter


@pytest.mark.parametrize(("height", "width"), [(10, 10), (11, 8), (7, 20), (1, 1)])
def test_the_crop_is_centred(height, width):
    image = np.zeros((height, width, 3), np.uint8)
    image[height // 2, width // 2] = 255
    side = min(height, width)
    crop = center_crop(image, 1.0)
    assert crop.shape == (side, side, 3)
    assert crop.max() == 255


@pytest.mark.parametrize(("height", "width"), [(96, 96), (112, 92), (40, 33), (300, 401), (1, 1)])
def test_resizing_is_that_of_tensorflow(height, width):
    config = NetworkConfig(image_size=64, central=0.85)
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3)).astype(np.uint8)
    expected = tf.image.resize(center_crop(image, 0.85), (64, 64), antialias=True).numpy()
    np.testing.assert_allclose(to_network_values(image, config), expected, atol=1e-2)


def test_without_amounts_a_picture_is_only_mirrored():
    augment = Augmenter(CALM, TINY.network, np.random.default_rng(0))
    plain = to_network_values(SQUARE, TINY.network)
    for _ in range(8):
        found = augment(SQUARE).astype(np.float32)
        same, mirrored = (np.abs(found - v).max() for v in (plain, plain[:, ::-1]))
        assert min(same, mirrored) <= 1.5


@pytest.mark.parametrize("kind", ["color", "grey", "blur", "erase"])
def test_each_change_changes_something(kind):
    config = dataclasses.replace(CALM, **{kind: 1.0})
    found = Augmenter(config, TINY.network, np.random.default_rng(0))(SQUARE)
    plain = Augmenter(CALM, TINY.network, np.random.default_rng(0))(SQUARE)
    assert (found.shape, found.dtype) == ((32, 32, 3), np.uint8)
    assert np.abs(found.astype(int) - plain).max() > 5


def test_grey_pictures_have_no_colour():
    config = dataclasses.replace(CALM, grey=1.0)
    found = Augmenter(config, TINY.network, np.random.default_rng(0))(SQUARE)
    np.testing.assert_array_equal(found[..., 0], found[..., 2])


def test_the_hidden_rectangle_is_a_fifth_at_most():
    config = dataclasses.replace(CALM, erase=1.0)
    flat = np.full((32, 32, 3), 7, np.uint8)
    augment = Augmenter(config, TINY.network, np.random.default_rng(0))
    for _ in range(50):
        assert (augment(flat) != 7).any(axis=2).mean() <= 0.21


def test_the_same_seed_gives_the_same_pictures():
    config = AugmentationConfig()
    first, second = (
        Augmenter(config, TINY.network, np.random.default_rng(4))(SQUARE) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)
