import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.detection.boxes import pairwise_iou
from models.detection.nms import select

SQUARE = [0, 0, 10, 10]
SHIFTED = [2, 0, 12, 10]  # IoU 2/3 with SQUARE
FAR = [50, 50, 60, 60]


def run(boxes, scores, score_threshold=0.1, iou_threshold=0.5, rows=10):
    boxes, scores = np.array(boxes, np.float32), np.array(scores, np.float32)
    return select(boxes, scores, score_threshold, iou_threshold, rows)


def test_the_better_of_two_overlapping_boxes_stays():
    found = run([SQUARE, SHIFTED, FAR], [[0.6], [0.7], [0.2]])
    assert found.boxes_xyxy.tolist() == [SHIFTED, FAR]
    assert found.class_ids.tolist() == [0, 0]


def test_boxes_of_other_classes_do_not_suppress():
    found = run([SQUARE, SHIFTED], [[0.6, 0.1], [0.2, 0.7]])
    assert found.class_ids.tolist() == [1, 0]


def test_overlap_equal_to_the_threshold_stays():
    half = [0, 0, 10, 5]
    assert len(run([SQUARE, half], [[0.6], [0.5]], iou_threshold=0.5)) == 2
    assert len(run([SQUARE, half], [[0.6], [0.5]], iou_threshold=0.49)) == 1


def test_score_equal_to_the_threshold_goes():
    assert len(run([SQUARE], [[0.5]], score_threshold=0.5)) == 0


def test_equal_scores_keep_their_order_and_rows_are_cut():
    found = run([FAR, SQUARE, SHIFTED], [[0.5], [0.5], [0.5]], iou_threshold=0.9, rows=2)
    assert found.boxes_xyxy.tolist() == [FAR, SQUARE]


def test_above_filters():
    found = run([SQUARE, FAR], [[0.6], [0.3]])
    assert found.above(0.3).boxes_xyxy.tolist() == [SQUARE]


@given(st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_survivors_are_ordered_and_apart(seed):
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 30, (40, 2))
    boxes = np.concatenate([corners, corners + random.uniform(3, 20, (40, 2))], axis=1)
    found = run(boxes, random.uniform(0, 1, (40, 2)), iou_threshold=0.4, rows=25)
    assert (np.diff(found.scores) <= 0).all()
    for class_id in (0, 1):
        own = found.boxes_xyxy[found.class_ids == class_id]
        overlap = pairwise_iou(own, own) - np.eye(len(own))
        assert (overlap <= 0.4 + 1e-6).all()
