import numpy as np
import pytest

from models.detection.augmentation import (
    Augmenter,
    Sample,
    mirror,
    recolour,
    transform_boxes,
    warp,
)
from models.detection.config import AugmentationConfig

EXACT = AugmentationConfig(
    mosaic=0, plain=0, scale_min=1, scale_max=1, stretch=0, min_visible=0.3, quarter_turns=True
)


@pytest.fixture
def bright_box():
    """Grey with one white box; wherever the box goes, its pixels go too."""
    image = np.full((40, 60, 3), 20, np.uint8)
    image[8:24, 10:30] = 250
    boxes = np.array([[10, 8, 30, 24]], np.float32)
    return Sample(image, boxes, np.array([1], np.int32))


def white_box(image):
    rows, columns = np.where(image[..., 0] > 200)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize(("across", "down"), [(True, False), (False, True), (True, True)])
def test_mirrored_boxes_follow_their_pixels(bright_box, across, down):
    mirrored = mirror(bright_box, across, down)
    assert mirrored.boxes_xyxy[0].tolist() == white_box(mirrored.image_u8)


@pytest.mark.parametrize("seed", range(12))
def test_warped_boxes_follow_their_pixels(bright_box, seed):
    varied = AugmentationConfig(scale_min=0.8, scale_max=1.2, min_visible=0.01)
    warped = warp(bright_box, 64, 64, varied, 1.0, np.random.default_rng(seed))
    np.testing.assert_allclose(warped.boxes_xyxy[0], white_box(warped.image_u8), atol=1.6)


def test_warp_without_scale_keeps_the_area(bright_box):
    warped = warp(bright_box, 64, 64, EXACT, 1.0, np.random.default_rng(0))
    width, height = warped.boxes_xyxy[0, 2:] - warped.boxes_xyxy[0, :2]
    assert width * height == pytest.approx(20 * 16, rel=1e-4)


def test_boxes_mostly_out_of_view_are_dropped(bright_box):
    seen = [
        len(warp(bright_box, 16, 16, EXACT, 1.0, np.random.default_rng(seed)).class_ids)
        for seed in range(30)
    ]
    assert set(seen) == {0, 1}


def test_transformed_boxes_by_hand():
    quarter_turn = np.array([[0.0, -1, 10], [1, 0, 0], [0, 0, 1]])
    boxes = transform_boxes(np.array([[1, 2, 3, 5]], np.float32), quarter_turn)
    assert boxes.tolist() == [[5, 1, 8, 3]]


def test_mosaic_holds_boxes_of_four_samples(bright_box):
    augmenter = Augmenter(AugmentationConfig(mosaic=1, plain=0, min_visible=0.05), 64, 96)
    found = augmenter([bright_box] * 4, 0, np.random.default_rng(1))
    assert found.image_u8.shape == (64, 96, 3)
    assert len(found.class_ids) >= 2
    assert (found.boxes_xyxy >= 0).all()
    assert (found.boxes_xyxy <= [96, 64, 96, 64]).all()


def test_plain_samples_look_as_in_use(bright_box):
    augmenter = Augmenter(AugmentationConfig(mosaic=0, plain=1), 64, 64)
    found = augmenter([bright_box], 0, np.random.default_rng(0))
    assert found.image_u8.shape == (64, 64, 3)
    assert found.boxes_xyxy[0].tolist() == white_box(found.image_u8)


def test_recolouring_leaves_boxes_and_changes_pixels(bright_box):
    found = recolour(bright_box, AugmentationConfig(), np.random.default_rng(0))
    assert found.boxes_xyxy is bright_box.boxes_xyxy
    assert found.image_u8.shape == bright_box.image_u8.shape
    assert (found.image_u8 != bright_box.image_u8).any()
