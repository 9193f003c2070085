from dataclasses import replace

import numpy as np
import pytest

from models.segmentation.augmentation import Crop, augment, random_crop, recolour, turn
from models.segmentation.config import AugmentationConfig
from models.segmentation.synthetic import make_examples

STILL = AugmentationConfig(
    crop=16,
    scale=(1.0, 1.0),
    horizontal_flip=False,
    vertical_flip=False,
    rot90=False,
    brightness=0.0,
    contrast=0.0,
    gamma=0.0,
    saturation=0.0,
)


def numbered(height, width):
    """An image whose pixels say where they are, with a mask that says the same."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([rows, columns, rows], axis=2), rows


def test_same_seed_same_crop():
    example = make_examples(1, seed=1)[0]
    config = AugmentationConfig(crop=32)
    first, again = (
        augment(example.image, example.mask, config, np.random.default_rng(5)) for _ in range(2)
    )
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.mask, again.mask)


def test_without_changes_a_crop_is_a_part_of_the_image():
    image, mask = numbered(40, 50)
    crop = augment(image, mask, STILL, np.random.default_rng(0))
    top, left = crop.image[0, 0, :2]
    np.testing.assert_array_equal(crop.image, image[top : top + 16, left : left + 16])
    np.testing.assert_array_equal(crop.mask, mask[top : top + 16, left : left + 16])


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (16, 3)])
def test_a_small_image_is_mirrored(size):
    image, mask = numbered(*size)
    crop = random_crop(image, mask, STILL, np.random.default_rng(0))
    assert crop.image.shape == (16, 16, 3)
    steps = np.abs(np.diff(crop.image[:, :, 0].astype(int), axis=0))
    assert steps.max() <= 1  # rows follow each other, forwards or backwards
    np.testing.assert_array_equal(crop.image[..., 0], crop.mask)


def test_image_and_mask_move_together():
    image, mask = numbered(64, 64)
    config = replace(STILL, horizontal_flip=True, vertical_flip=True, rot90=True)
    for seed in range(12):
        crop = augment(image, mask, config, np.random.default_rng(seed))
        np.testing.assert_array_equal(crop.image[..., 0], crop.mask)


def test_scaling_keeps_image_and_mask_aligned():
    image, mask = numbered(64, 64)
    config = replace(STILL, scale=(0.5, 2.0))
    for seed in range(8):
        crop = random_crop(image, mask, config, np.random.default_rng(seed))
        assert crop.image.shape == (16, 16, 3)
        assert np.abs(crop.image[..., 0].astype(int) - crop.mask).max() <= 2


def test_turns_are_of_the_eight_symmetries():
    image, mask = numbered(4, 4)
    config = replace(STILL, horizontal_flip=True, vertical_flip=True, rot90=True)
    found = set()
    for seed in range(200):
        found.add(turn(Crop(image, mask), config, np.random.default_rng(seed)).image.tobytes())
    assert len(found) == 8


def test_recolouring_without_strength_changes_nothing():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    np.testing.assert_array_equal(recolour(image, STILL, np.random.default_rng(0)), image)


def test_recolouring_stays_in_range_and_changes_something():
    image = make_examples(1, seed=2)[0].image
    config = AugmentationConfig(crop=32, channel_gain=0.5)
    found = [recolour(image, config, np.random.default_rng(seed)) for seed in range(5)]
    assert all(f.dtype == np.uint8 and f.shape == image.shape for f in found)
    assert len({f.tobytes() for f in found}) == 5


def test_colour_can_be_lost_and_an_image_become_its_negative():
    image = np.random.default_rng(4).integers(0, 256, (8, 8, 3), np.uint8)
    random = np.random.default_rng(0)
    negative = recolour(image, replace(STILL, negative=0.999), random)
    np.testing.assert_allclose(negative, 255 - image.astype(int), atol=1)
    grey = recolour(image, replace(STILL, grey=0.999), random)
    assert (grey == grey[..., :1]).all()
    np.testing.assert_allclose(grey[..., 0], image @ [0.299, 0.587, 0.114], atol=1)
