import math

import numpy as np
import pytest
from sklearn import metrics as reference

from models.sentiment.metrics import (
    compute_metrics,
    confusion_matrix,
    expected_calibration_error,
    f1_score,
    roc_auc,
)


def random_predictions(classes: int, seed: int, n: int = 500):
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, n)
    logits = random.normal(0, 1, (n, classes)) + 1.2 * np.eye(classes)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return truth, np.round(probabilities, 2)  # rounding makes ties


@pytest.mark.parametrize("seed", range(5))
def test_two_classes_equal_scikit_learn(seed):
    truth, probabilities = random_predictions(2, seed)
    found = compute_metrics(truth, probabilities)
    predicted = probabilities.argmax(axis=1)
    assert found.accuracy == pytest.approx(reference.accuracy_score(truth, predicted))
    assert found.f1 == pytest.approx(reference.f1_score(truth, predicted))
    assert found.roc_auc == pytest.approx(reference.roc_auc_score(truth, probabilities[:, 1]))
    assert found.n == 500


@pytest.mark.parametrize("seed", range(3))
def test_several_classes_are_averaged_as_in_scikit_learn(seed):
    truth, probabilities = random_predictions(4, seed)
    found = compute_metrics(truth, probabilities)
    predicted = probabilities.argmax(axis=1)
    assert found.f1 == pytest.approx(reference.f1_score(truth, predicted, average="macro"))
    one_against_rest = [reference.roc_auc_score(truth == c, probabilities[:, c]) for c in range(4)]
    assert found.roc_auc == pytest.approx(np.mean(one_against_rest))


def test_confusion_matrix_equals_scikit_learn():
    truth, probabilities = random_predictions(3, 1)
    predicted = probabilities.argmax(axis=1)
    expected = reference.confusion_matrix(truth, predicted)
    np.testing.assert_array_equal(confusion_matrix(truth, predicted, 3), expected)


def test_degenerate_cases():
    nothing = np.zeros(4, bool)
    assert f1_score(nothing, nothing) == 0.0
    assert math.isnan(roc_auc(nothing, np.arange(4.0)))


def test_calibration_error_by_hand():
    # Two bins in use: confidence 0.9 with accuracy 1/2, and 0.6 with accuracy 1/2.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    truth = np.array([0, 1, 1, 0])
    expected = 0.5 * abs(0.5 - 0.9) + 0.5 * abs(0.5 - 0.6)
    assert expected_calibration_error(truth, probabilities) == pytest.approx(expected)


def test_calibration_error_equals_a_plain_loop():
    truth, probabilities = random_predictions(2, 3)
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == truth
    total = 0.0
    for low in np.linspace(0, 1, 16)[:-1]:
        inside = (confidence > low + 1e-9) & (confidence <= low + 1 / 15 + 1e-9)
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(truth, probabilities) == pytest.approx(total)
