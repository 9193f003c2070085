import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from models.detection.metrics import (
    IOU_THRESHOLDS,
    Curve,
    Matches,
    Truth,
    average_precision,
    best_threshold,
    compute_metrics,
    confusion_matrix,
    curve,
    image_errors,
    map50,
    match_class,
    operating_point,
    operating_points,
    voc07_average_precision,
    voc_average_precision,
)
from models.detection.nms import Detections

LABELS = ("a", "b", "c")


def random_case(seed, images=6, crowds=True):
    """Labelled boxes of all sizes, and detections near some of them and elsewhere."""
    random = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(images):
        count = int(random.integers(0, 7))
        corners = random.uniform(0, 200, (count, 2))
        boxes = np.concatenate([corners, corners + random.uniform(8, 160, (count, 2))], axis=1)
        ignored = random.random(count) < (0.2 if crowds else 0)
        classes = random.integers(0, 3, count)
        truths.append(Truth(boxes.astype(np.float32), classes, ignored))
        near = boxes + random.normal(0, 6, boxes.shape)
        extra = random.integers(0, 5)
        corners = random.uniform(0, 200, (extra, 2))
        wild = np.concatenate([corners, corners + random.uniform(8, 160, (extra, 2))], axis=1)
        everything = np.concatenate([near, near + random.normal(0, 4, near.shape), wild])
        everything[:, 2:] = np.maximum(everything[:, 2:], everything[:, :2] + 1)
        class_ids = np.concatenate([classes, classes, random.integers(0, 3, extra)])
        # Few distinct scores, so that ties are tried too.
        scores = random.integers(1, 12, len(everything)) / 12
        found.append(
            Detections(everything.astype(np.float32), scores.astype(np.float32), class_ids)
        )
    return truths, found


def xywh(box):
    x1, y1, x2, y2 = (float(value) for value in box)
    return [x1, y1, x2 - x1, y2 - y1]


def coco_eval(truths, found):
    """Scores the same with the reference implementation."""
    annotations, results = [], []
    for image, truth in enumerate(truths):
        for box, class_id, crowd in zip(
            truth.boxes_xyxy, truth.class_ids, truth.ignored, strict=True
        ):
            bbox = xywh(box)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(class_id),
                    "bbox": bbox,
                    "area": bbox[2] * bbox[3],
                    "iscrowd": int(crowd),
                }
            )
    for image, detections in enumerate(found):
        for box, score, class_id in zip(
            detections.boxes_xyxy, detections.scores, detections.class_ids, strict=True
        ):
            results.append(
                {
                    "image_id": image,
                    "category_id": int(class_id),
                    "bbox": xywh(box),
                    "score": float(score),
                }
            )
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = {
            "images": [{"id": i} for i in range(len(truths))],
            "annotations": annotations,
            "categories": [{"id": i, "name": name} for i, name in enumerate(LABELS)],
            "info": {},
        }
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def nan_if_absent(value):
    return float("nan") if value == -1 else value


@pytest.mark.parametrize("seed", range(25))
def test_equals_pycocotools(seed):
    truths, found = random_case(seed)
    reference = coco_eval(truths, found)
    metrics = compute_metrics(truths, found, LABELS)
    stats = [nan_if_absent(value) for value in reference.stats]
    ours = [metrics.map, metrics.map50, metrics.map75, *metrics.map_by_size.values()]
    np.testing.assert_allclose(ours, stats[:6], atol=1e-9, equal_nan=True)
    # Per class: precision[T, R, K, area, detections], -1 where nothing is labelled.
    precision = reference.eval["precision"][:, :, :, 0, -1]
    for k, name in enumerate(LABELS):
        expected = [nan_if_absent(precision[t, :, k].mean()) for t in range(len(IOU_THRESHOLDS))]
        assert metrics.ap50_by_class[name] == pytest.approx(expected[0], abs=1e-9, nan_ok=True)
        assert metrics.ap_by_class[name] == pytest.approx(
            float(np.mean(expected)), abs=1e-9, nan_ok=True
        )
    assert map50(truths, found, len(LABELS)) == pytest.approx(metrics.map50, nan_ok=True)


@given(st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_labels_detected_exactly_score_one(seed):
    truths, _ = random_case(seed, crowds=False)
    found = [Detections(t.boxes_xyxy, np.ones(len(t.class_ids)), t.class_ids) for t in truths]
    metrics = compute_metrics(truths, found, LABELS)
    if metrics.boxes:
        assert metrics.map == pytest.approx(1)
        assert metrics.voc == pytest.approx(1)


def hand_worked():
    """Four labelled boxes; by falling score: right, wrong, right, wrong, right."""
    correct = np.array([[True, False, True, False, True]])
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    return Matches(scores, correct, np.zeros_like(correct), positives=4)


def test_curve_by_hand():
    points = curve(hand_worked())
    np.testing.assert_allclose(points.precision, [1, 1 / 2, 2 / 3, 2 / 4, 3 / 5])
    np.testing.assert_allclose(points.recall, [0.25, 0.25, 0.5, 0.5, 0.75])


def test_average_precisions_by_hand():
    # Best precision at a recall or beyond: 1 up to 0.25, 2/3 up to 0.5, 3/5 up to 0.75, then 0.
    matches = hand_worked()
    assert voc_average_precision(matches) == pytest.approx(0.25 * (1 + 2 / 3 + 3 / 5))
    assert voc07_average_precision(matches) == pytest.approx((3 * 1 + 3 * 2 / 3 + 2 * 3 / 5) / 11)
    assert average_precision(matches) == pytest.approx((26 * 1 + 25 * 2 / 3 + 25 * 3 / 5) / 101)


def test_nothing_labelled_is_nan_and_nothing_found_is_zero():
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    labelled = Truth(np.array([[0.0, 0, 9, 9]]), np.array([1]), np.array([False]))
    metrics = compute_metrics([labelled], [nothing], LABELS)
    assert np.isnan(metrics.ap50_by_class["a"])
    assert metrics.ap50_by_class["b"] == 0
    assert metrics.map50 == 0
    assert metrics.voc == metrics.voc07 == 0


def test_each_box_is_found_once():
    truth = Truth(np.array([[0.0, 0, 10, 10]]), np.array([0]), np.array([False]))
    twice = Detections(np.array([[0.0, 0, 10, 10]] * 2), np.array([0.9, 0.8]), np.zeros(2, int))
    matches = match_class([truth], [twice], 0)
    assert matches.correct[0].tolist() == [True, False]


def test_operating_point_by_hand():
    points = curve(hand_worked())
    point = operating_point(points, 0.65)
    assert (point.precision, point.recall) == pytest.approx((2 / 3, 0.5))
    assert point.f1 == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))
    assert operating_point(points, 0.95).recall == 0
    empty = operating_point(Curve(np.zeros(0), np.zeros(0), np.zeros(0)), 0.5)
    assert (empty.precision, empty.recall, empty.f1) == (1, 0, 0)


def test_best_threshold_by_hand():
    # Right at 0.6, wrong at 0.3: every threshold in between is best, the lowest is taken.
    truth = Truth(np.array([[0, 0, 10, 10.0]]), np.array([0]), np.zeros(1, bool))
    places = np.array([[0, 0, 10, 10], [50, 50, 60, 60.0]])
    found = Detections(places, np.array([0.6, 0.31]), np.zeros(2, int))
    assert best_threshold([truth], [found], 1) == pytest.approx(0.35)


def test_confusion_matrix_by_hand():
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60.0]])
    truth = Truth(boxes, np.array([0, 1, 0]), np.zeros(3, bool))
    # Right; right place, wrong class; elsewhere. The third labelled box is missed.
    places = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [80, 80, 90, 90.0]])
    found = Detections(places, np.array([0.9, 0.8, 0.7]), np.array([0, 0, 1]))
    matrix = confusion_matrix([truth], [found], 2)
    assert matrix.tolist() == [[1, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert image_errors(truth, found) == 3


def test_confusion_matrix_leaves_crowds_out():
    truth = Truth(np.array([[0, 0, 50, 50.0]]), np.array([0]), np.array([True]))
    inside = Detections(np.array([[5, 5, 15, 15.0]]), np.array([0.9]), np.array([0]))
    assert confusion_matrix([truth], [inside], 1).sum() == 0


def test_operating_points_of_each_class():
    truths, found = random_case(3)
    points = operating_points(truths, found, 3, 0.5)
    assert all(0 <= p.precision <= 1 and 0 <= p.recall <= 1 for p in points)
