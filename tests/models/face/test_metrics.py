from itertools import product

import numpy as np
import pytest
from sklearn import metrics as reference

from models.face.metrics import (
    accept_rates,
    accuracy_at,
    best_accuracy_threshold,
    derive_thresholds,
    equal_error_rate,
    rank1_identification,
    roc_auc,
    roc_curve,
    squared_distances,
    threshold_at_far,
)


def random_pairs(seed, n=600):
    random = np.random.default_rng(seed)
    same = random.random(n) < 0.3
    distances = np.where(same, random.gamma(4, 0.15, n), random.gamma(9, 0.15, n))
    return np.round(distances, 2), same  # rounding makes ties


def random_embeddings(seed, sizes=(3, 2, 1, 4), units=3):
    random = np.random.default_rng(seed)
    identities = np.repeat(np.arange(len(sizes)), sizes)
    vectors = (
        random.normal(0, 1, (len(identities), units))
        + 2 * random.normal(0, 1, (len(sizes), units))[identities]
    )
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), identities


@pytest.mark.parametrize("seed", range(5))
def test_roc_equals_scikit_learn(seed):
    distances, same = random_pairs(seed)
    curve = roc_curve(distances, same)
    false, true, _ = reference.roc_curve(same, -distances, drop_intermediate=False)
    np.testing.assert_allclose(curve.false_accepts, false)
    np.testing.assert_allclose(curve.true_accepts, true)
    assert roc_auc(curve) == pytest.approx(reference.roc_auc_score(same, -distances))


@pytest.mark.parametrize("seed", range(5))
def test_equal_error_rate_is_where_the_curve_of_scikit_learn_crosses(seed):
    distances, same = random_pairs(seed)
    false, true, _ = reference.roc_curve(same, -distances)
    grid = np.linspace(0, 1, 200_001)
    errors = np.abs(1 - np.interp(grid, false, true) - grid)
    assert equal_error_rate(roc_curve(distances, same)) == pytest.approx(
        grid[errors.argmin()], abs=1e-4
    )


@pytest.mark.parametrize("seed", range(3))
def test_accuracy_equals_the_balanced_accuracy_of_scikit_learn(seed):
    distances, same = random_pairs(seed)
    expected = reference.balanced_accuracy_score(same, distances <= 0.9)
    assert accuracy_at(distances, same, 0.9) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_best_threshold_is_as_good_as_any(seed):
    distances, same = random_pairs(seed)
    best = best_accuracy_threshold(roc_curve(distances, same))
    found = accuracy_at(distances, same, best)
    assert found >= max(accuracy_at(distances, same, t) for t in np.linspace(0, 4, 801))


@pytest.mark.parametrize("rate", [0.0, 0.001, 0.01, 0.1, 1.0])
def test_threshold_keeps_the_false_accept_rate_and_wastes_nothing(rate):
    distances, same = random_pairs(1, n=5000)
    threshold = threshold_at_far(roc_curve(distances, same), rate)
    assert accept_rates(distances, same, threshold)[1] <= rate
    higher = distances[distances > threshold]
    if len(higher):
        assert accept_rates(distances, same, higher.min())[1] > rate


def test_perfect_and_opposite_distances():
    same = np.array([True, True, False, False])
    perfect = roc_curve(np.array([0.1, 0.2, 1.0, 2.0]), same)
    assert (roc_auc(perfect), equal_error_rate(perfect)) == (1.0, 0.0)
    assert best_accuracy_threshold(perfect) == pytest.approx(0.6)
    opposite = roc_curve(np.array([1.0, 2.0, 0.1, 0.2]), same)
    assert (roc_auc(opposite), equal_error_rate(opposite)) == (0.0, 1.0)


def test_pairs_of_one_kind_have_no_curve():
    with pytest.raises(ValueError, match="need same and different pairs, got 2 and 0"):
        roc_curve(np.array([0.1, 0.2]), np.array([True, True]))


def test_thresholds_come_from_the_judged_pairs_and_from_all_different_ones():
    distances = np.array([0.1, 0.5, 0.9, 1.5, 0.2])
    same = np.array([True, True, False, False, False])
    judged = np.array([True, True, True, True, False])
    found = derive_thresholds(distances, same, judged)
    assert found["accuracy"] == pytest.approx(0.7)
    assert found["far_1e-2"] == found["far_1e-3"] == pytest.approx(0.1)


def test_squared_distances_by_hand():
    embeddings = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    rows = np.array([[0, 0], [0, 1], [0, 2]])
    np.testing.assert_allclose(squared_distances(embeddings, rows), [0, 2, 4])


@pytest.mark.parametrize("seed", range(4))
def test_rank1_equals_the_mean_over_every_gallery(seed):
    embeddings, identities = random_embeddings(seed)
    rows = [np.flatnonzero(identities == identity) for identity in range(4)]
    right, total = np.zeros(len(identities)), np.zeros(len(identities))
    for gallery in product(*rows):
        for probe in range(len(identities)):
            if probe in gallery or len(rows[identities[probe]]) == 1:
                continue
            distances = ((embeddings[list(gallery)] - embeddings[probe]) ** 2).sum(axis=1)
            total[probe] += 1
            right[probe] += identities[gallery[int(distances.argmin())]] == identities[probe]
    expected = (right[total > 0] / total[total > 0]).mean()
    assert rank1_identification(embeddings, identities) == pytest.approx(expected)


def test_rank1_needs_somebody_to_recognise():
    embeddings, _ = random_embeddings(0)
    assert np.isnan(rank1_identification(embeddings, np.arange(len(embeddings))))
