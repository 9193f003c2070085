import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from models.detection.boxes import (
    box_areas,
    clip_boxes,
    complete_iou,
    intersections,
    iou,
    pairwise_iou,
)

sides = st.floats(0, 200, width=32)
boxes = st.tuples(sides, sides, sides, sides).map(
    lambda s: np.array([[s[0], s[1], s[0] + s[2], s[1] + s[3]]], np.float32)
)


def test_areas_and_intersections_by_hand():
    a = np.array([[0, 0, 10, 10], [5, 5, 1, 9]], np.float32)
    assert box_areas(a).tolist() == [100, 0]
    b = np.array([[5, 5, 15, 15], [20, 20, 30, 30]], np.float32)
    assert intersections(a[:1], b).tolist() == [[25, 0]]
    np.testing.assert_allclose(pairwise_iou(a[:1], b), [[25 / 175, 0]], rtol=1e-6)


@given(boxes, boxes)
@settings(max_examples=50, deadline=None)
def test_iou_is_symmetric_and_bounded(a, b):
    value = pairwise_iou(a, b)[0, 0]
    assert 0 <= value <= 1 + 1e-5
    assert value == pytest.approx(pairwise_iou(b, a)[0, 0], abs=1e-6)


@given(boxes)
@settings(max_examples=50, deadline=None)
def test_clipped_boxes_lie_inside_and_clipping_twice_changes_nothing(box):
    clipped = clip_boxes(box, 50, 80)
    assert (clipped >= 0).all()
    assert (clipped <= [80, 50, 80, 50]).all()
    np.testing.assert_array_equal(clip_boxes(clipped, 50, 80), clipped)


def test_tensor_iou_equals_the_array_one():
    random = np.random.default_rng(0)
    corners = random.uniform(0, 50, (2, 6, 2))
    a, b = (
        np.concatenate([c, c + random.uniform(1, 40, (6, 2))], axis=1).astype(np.float32)
        for c in corners
    )
    found = ops.convert_to_numpy(iou(a[:, None], b[None]))
    np.testing.assert_allclose(found, pairwise_iou(a, b), atol=1e-6)


def test_complete_iou_by_hand():
    # Equal boxes: 1. Same centre, twice as wide: IoU 1/2, no distance, only the aspect counts.
    square = np.array([0, 0, 10, 10], np.float32)
    wide = np.array([-5, 0, 15, 10], np.float32)
    assert float(complete_iou(square, square)) == pytest.approx(1, abs=1e-5)
    v = 4 / np.pi**2 * (np.arctan(2) - np.arctan(1)) ** 2
    expected = 0.5 - v * v / (1 - 0.5 + v)
    assert float(complete_iou(wide, square)) == pytest.approx(expected, abs=1e-5)
    # Apart, same shape: minus the squared distance of centres over the squared diagonal.
    far = square + np.array([20, 0, 20, 0], np.float32)
    assert float(complete_iou(far, square)) == pytest.approx(-400 / (30**2 + 10**2), abs=1e-5)
