import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from models.sentiment.linear import (
    LinearSizes,
    count_features,
    fit_linear,
    hash_pairs,
    log_count_ratios,
)

SIZES = LinearSizes(words=20, buckets=97)


def make_texts(classes: int, count: int = 300):
    """Texts in which words 2..classes+1 speak for one class each, among noise."""
    random = np.random.default_rng(0)
    class_ids = random.integers(0, classes, count)
    texts = [
        np.where(random.random(12) < 0.3, class_id + 2, random.integers(8, 20, 12))
        for class_id in class_ids
    ]
    return texts, class_ids


def logits(tables, texts):
    features = count_features(texts, SIZES)
    return features @ np.concatenate([tables.words, tables.pairs])


def test_ratios_by_hand():
    # Three features; class 0 holds {0, 1}, class 1 holds {1, 2} and {2}; values do not matter.
    features = sparse.csr_matrix(np.array([[1, 1, 0], [0, 2, 3], [0, 0, 7]]))
    inside, outside = np.array([1, 2, 3]) / 6, np.array([2, 2, 1]) / 5
    found = log_count_ratios(features, np.array([False, True, True]))
    np.testing.assert_allclose(found, np.log(inside / outside), rtol=1e-6)


def test_features_by_hand():
    found = count_features([np.array([3, 3, 5])], SIZES).toarray()[0] * np.sqrt(4)
    expected = np.zeros(117)
    expected[[3, 5]] = 2, 1
    for bucket in hash_pairs(np.array([3, 3, 5]), 97):
        expected[20 + bucket] += 1
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_two_classes_equal_logistic_regression_on_scaled_features():
    texts, class_ids = make_texts(2)
    tables = fit_linear(texts, class_ids, 2, SIZES, 1.0)
    features = count_features(texts, SIZES)
    ratios = log_count_ratios(features, class_ids == 1)
    reference = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-8, max_iter=5000)
    reference.fit(features @ sparse.diags(ratios), class_ids)
    expected = reference.decision_function(features @ sparse.diags(ratios))
    np.testing.assert_allclose(logits(tables, texts)[:, 0], expected, atol=0.02)


@pytest.mark.parametrize("classes", [2, 4])
def test_separates_the_classes(classes):
    texts, class_ids = make_texts(classes)
    tables = fit_linear(texts, class_ids, classes, SIZES, 10.0)
    assert tables.words.shape == (20, classes - 1)
    assert tables.pairs.shape == (97, classes - 1)
    scores = np.pad(logits(tables, texts), [(0, 0), (1, 0)])
    assert np.mean(scores.argmax(axis=1) == class_ids) > 0.9


def test_hash_fits_int32_and_spreads():
    largest = np.array([2**15 - 1, 2**15 - 1])
    assert 0 <= hash_pairs(largest, 2**31 - 1)[0] < 2**31 - 1
    random = np.random.default_rng(0)
    # Word frequencies follow Zipf's law; distinct pairs should meet rarely in 2^20 buckets.
    ids = np.minimum(random.zipf(1.3, 200_000) + 1, 20_000)
    pairs = np.unique(np.stack([ids[:-1], ids[1:]], axis=1), axis=0)
    buckets = np.array([hash_pairs(pair, 1_048_573)[0] for pair in pairs])
    expected = 1_048_573 * (1 - (1 - 1 / 1_048_573) ** len(pairs))  # of a random hash
    assert len(np.unique(buckets)) > 0.97 * expected


def test_hash_depends_on_order():
    assert hash_pairs(np.array([5, 9]), 1021) != hash_pairs(np.array([9, 5]), 1021)
