import numpy as np
import pytest
from keras import ops

from models.detection.config import AssignmentConfig
from models.detection.targets import assign

CONFIG = AssignmentConfig(candidates=2)
UNUSED = [0, 0, 0, 0, -1]


def run(scores, boxes, centers, labels, config=CONFIG):
    targets = assign(
        np.array([scores], np.float32),
        np.array([boxes], np.float32),
        np.array(centers, np.float32),
        np.array([labels], np.float32),
        config,
    )
    return [
        ops.convert_to_numpy(value)[0]
        for value in (targets.quality, targets.boxes_xyxy, targets.classes)
    ]


def test_the_best_aligned_predictions_are_chosen():
    # Three predictions inside the box; the last overlaps too little to be among the best two.
    boxes = [[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 3, 3], [90, 90, 99, 99]]
    scores = [[0.5, 0.1]] * 4
    centers = [[5, 5], [4, 5], [2, 2], [95, 95]]
    quality, chosen, classes = run(scores, boxes, centers, [[0, 0, 10, 10, 0], UNUSED])
    assert quality[0] == pytest.approx(1, abs=1e-5)  # the best reaches its own overlap
    assert quality[1] == pytest.approx(0.9**6, abs=1e-4)
    assert quality[2:].tolist() == [0, 0]
    assert chosen[:2].tolist() == [[0, 0, 10, 10]] * 2
    assert classes.tolist() == [[1, 0], [1, 0], [0, 0], [0, 0]]


def test_a_center_outside_the_box_never_counts():
    quality, *_ = run(
        [[0.9]], [[0, 0, 10, 10]], [[20, 20]], [[0, 0, 10, 10, 0]], AssignmentConfig(1)
    )
    assert quality.tolist() == [0]


def test_a_prediction_goes_to_the_box_it_overlaps_most():
    labels = [[0, 0, 10, 10, 0], [0, 0, 10, 6, 1]]
    quality, chosen, classes = run(
        [[0.5, 0.5]], [[0, 0, 10, 9]], [[5, 5]], labels, AssignmentConfig(1)
    )
    assert chosen[0].tolist() == [0, 0, 10, 10]
    assert classes[0].tolist() == [1, 0]
    assert quality[0] == pytest.approx(0.9, abs=1e-5)


def test_score_of_the_boxes_own_class_decides():
    boxes = [[0, 0, 10, 10]] * 2
    scores = [[0.9, 0.1], [0.1, 0.8]]
    quality, _, classes = run(
        scores, boxes, [[5, 5], [4, 4]], [[0, 0, 10, 10, 1]], AssignmentConfig(1)
    )
    assert quality[0] == 0
    assert classes[1].tolist() == [0, 1]


def test_without_labels_all_is_background():
    quality, boxes, classes = run([[0.9]] * 2, [[0, 0, 9, 9]] * 2, [[4, 4]] * 2, [UNUSED])
    assert quality.sum() == boxes.sum() == classes.sum() == 0
