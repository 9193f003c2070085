import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as sklearn_metrics

from models.segmentation.config import VOID
from models.segmentation.metrics import (
    BoundaryScores,
    Scores,
    boundary,
    confusion_matrix,
    dice_by_class,
    dilate,
    iou_by_class,
)

LABELS = ("a", "b", "c")


def masks(seed, classes=3, shape=(9, 11)):
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, shape).astype(np.uint8)
    wrong = random.random(shape) < 0.3
    predicted = np.where(wrong, random.integers(0, classes, shape), truth).astype(np.uint8)
    return truth, predicted


@pytest.mark.parametrize("seed", range(5))
def test_confusion_iou_and_dice_as_scikit_learn(seed):
    truth, predicted = masks(seed)
    t, p = truth.ravel(), predicted.ravel()
    matrix = confusion_matrix(truth, predicted, 3)
    np.testing.assert_array_equal(matrix, sklearn_metrics.confusion_matrix(t, p))
    expected = sklearn_metrics.jaccard_score(t, p, average=None)
    np.testing.assert_allclose(iou_by_class(matrix), expected)
    np.testing.assert_allclose(dice_by_class(matrix), sklearn_metrics.f1_score(t, p, average=None))


def test_scores_of_a_set_are_pooled():
    scores = Scores(LABELS)
    pairs = [masks(seed) for seed in range(4)]
    for truth, predicted in pairs:
        scores.add(truth, predicted)
    t = np.concatenate([truth.ravel() for truth, _ in pairs])
    p = np.concatenate([predicted.ravel() for _, predicted in pairs])
    found = scores.metrics()
    assert found.n == 4
    np.testing.assert_allclose(found.mean_iou, sklearn_metrics.jaccard_score(t, p, average="macro"))
    np.testing.assert_allclose(found.dice, sklearn_metrics.f1_score(t, p, average="macro"))
    np.testing.assert_allclose(found.pixel_accuracy, sklearn_metrics.accuracy_score(t, p))
    np.testing.assert_allclose(
        found.mean_class_accuracy, sklearn_metrics.balanced_accuracy_score(t, p)
    )
    each = [sklearn_metrics.jaccard_score(a.ravel(), b.ravel(), average="macro") for a, b in pairs]
    np.testing.assert_allclose(found.mean_iou_per_image, np.mean(each))


def test_of_two_classes_dice_is_that_of_the_second():
    truth, predicted = masks(1, classes=2)
    scores = Scores(("ground", "cell"))
    scores.add(truth, predicted)
    expected = sklearn_metrics.f1_score(truth.ravel(), predicted.ravel())
    np.testing.assert_allclose(scores.metrics().dice, expected)


def test_an_image_without_objects_that_is_seen_as_such_has_dice_one():
    scores = Scores(("ground", "cell"))
    scores.add(np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8))
    found = scores.metrics()
    assert found.dice == found.dice_per_image == 1.0
    assert found.mean_iou == 1.0  # of the one class there is
    assert found.iou == {"ground": 1.0}


def test_void_pixels_count_nowhere():
    truth, predicted = masks(2)
    void = truth.copy()
    void[:3] = VOID
    found = confusion_matrix(void, predicted, 3)
    np.testing.assert_array_equal(found, confusion_matrix(truth[3:], predicted[3:], 3))


def brute_force_f1(truth, predicted, radius):
    """Boundary F1 of class 1 straight from the definition, pixel by pixel."""

    def edge(mask):
        height, width = mask.shape
        found = []
        for y in range(height):
            for x in range(width):
                if mask[y, x] != 1:
                    continue
                around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
                inside = [(v, u) for v, u in around if 0 <= v < height and 0 <= u < width]
                if any(mask[v, u] != 1 for v, u in inside):
                    found.append((y, x))
        return found

    def near(points, others):
        return sum(
            any((y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in others) for y, x in points
        )

    true_edge, found_edge = edge(truth), edge(predicted)
    precision = near(found_edge, true_edge) / len(found_edge)
    recall = near(true_edge, found_edge) / len(true_edge)
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize(("tolerance", "radius"), [(0.01, 1), (0.1, 2), (0.2, 4)])
def test_boundary_f1_by_brute_force(tolerance, radius):
    truth = np.zeros((14, 17), np.uint8)
    truth[3:9, 4:12] = 1
    predicted = np.zeros_like(truth)
    predicted[5:13, 6:13] = 1
    predicted[0, 15] = 1
    scores = BoundaryScores(2, tolerance)
    scores.add(truth, predicted)
    np.testing.assert_allclose(scores.f1(), brute_force_f1(truth, predicted, radius))


def test_boundary_f1_by_hand():
    """A square moved by two pixels: at tolerance 1 only the crossings are close."""
    truth = np.zeros((9, 9), np.uint8)
    truth[2:6, 2:6] = 1
    scores = BoundaryScores(2)
    scores.add(truth, truth)
    assert scores.f1() == 1.0
    empty = BoundaryScores(2)
    empty.add(truth, np.zeros_like(truth))
    assert empty.f1() == 0.0


def test_boundary_ignores_void_and_the_border_of_the_image():
    region = np.ones((4, 5), bool)
    assert not boundary(region).any()
    truth = np.zeros((8, 8), np.uint8)
    truth[:, 4:] = VOID
    predicted = np.zeros_like(truth)
    predicted[:, 5] = 1
    scores = BoundaryScores(2)
    scores.add(truth, predicted)
    assert np.isnan(scores.f1())


@given(arrays(bool, st.tuples(st.integers(1, 8), st.integers(1, 8))), st.integers(1, 4))
def test_dilation_by_brute_force(region, radius):
    expected = np.zeros_like(region)
    for y, x in np.ndindex(*region.shape):
        for v, u in zip(*np.nonzero(region), strict=True):
            expected[y, x] |= (y - v) ** 2 + (x - u) ** 2 <= radius**2
    np.testing.assert_array_equal(dilate(region, radius), expected)
