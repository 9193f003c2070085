"""The linear part of the classifier: evidence of single words and word pairs, fitted exactly.

Logistic regression on naive Bayes features is hard to beat on long reviews and is found by a
convex solver in seconds, where gradient descent on the same tables either stops early or learns
the training texts by heart. So its tables are fitted here, and the network holds them fixed.

Source: Wang and Manning 2012, "Baselines and Bigrams", section 2.2 (naive Bayes features).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression

# Multipliers of the pair hash: with ids below 2^15 the sum stays below 2^31, so the same int32
# arithmetic gives the same bucket in NumPy, TensorFlow, JAX and ONNX Runtime.
FIRST_MULTIPLIER = 40_503
SECOND_MULTIPLIER = 24_989


@dataclass(frozen=True)
class LinearSizes:
    """Rows of the two tables: words is the vocabulary's size, buckets that of the pair hash."""

    words: int
    buckets: int


@dataclass(frozen=True)
class LinearTables:
    """Evidence for each class but the first, relative to the first.

    Attributes:
        words: float32 [words, classes - 1].
        pairs: float32 [buckets, classes - 1].
    """

    words: np.ndarray
    pairs: np.ndarray


def hash_pairs(token_ids: np.ndarray, buckets: int) -> np.ndarray:
    """Maps each pair of neighbouring ids to a bucket.

    Args:
        token_ids: int [T], ids below 2^15, without padding.
        buckets: number of buckets.

    Returns:
        int64 [T - 1], values 0..buckets-1.
    """
    ids = np.asarray(token_ids, np.int64)
    return (ids[:-1] * FIRST_MULTIPLIER + ids[1:] * SECOND_MULTIPLIER) % buckets


def count_features(texts: Sequence[np.ndarray], sizes: LinearSizes) -> sparse.csr_matrix:
    """Counts words and pairs of each text, divided by the root of its length plus one.

    Args:
        texts: int [T] token ids of each text, T >= 1.
        sizes: of the tables.

    Returns:
        float32 [texts, words + buckets].
    """
    columns, values, ends = [], [], [0]
    for ids in texts:
        features = np.concatenate([ids, sizes.words + hash_pairs(ids, sizes.buckets)])
        columns.append(features)
        values.append(np.full(len(features), 1 / np.sqrt(len(ids) + 1), np.float32))
        ends.append(ends[-1] + len(features))
    shape = (len(texts), sizes.words + sizes.buckets)
    matrix = sparse.csr_matrix(
        (np.concatenate(values), np.concatenate(columns), np.array(ends)), shape=shape
    )
    matrix.sum_duplicates()
    return matrix


def log_count_ratios(features: sparse.csr_matrix, is_class: np.ndarray) -> np.ndarray:
    """Computes how much more often each feature occurs in a class than outside it.

    r[f] = log( (p[f] / |p|) / (q[f] / |q|) ) with p one plus the number of texts of the class
    that hold feature f, and q the same for all other texts.

    Args:
        features: [N, F]; only which entries are not zero matters.
        is_class: bool [N].

    Returns:
        float32 [F].
    """
    holds = features.astype(bool).astype(np.float64)
    inside = 1.0 + np.asarray(holds[is_class].sum(axis=0)).ravel()
    outside = 1.0 + np.asarray(holds[~is_class].sum(axis=0)).ravel()
    ratios = np.log(inside / inside.sum()) - np.log(outside / outside.sum())
    return np.asarray(ratios, np.float32)


def fit_linear(
    texts: Sequence[np.ndarray],
    class_ids: np.ndarray,
    classes: int,
    sizes: LinearSizes,
    inverse_regularization: float,
) -> LinearTables:
    """Fits one classifier for each class against the rest, and joins them into tables.

    Args:
        texts: int [T] token ids of each training text.
        class_ids: int [N].
        classes: number of classes.
        sizes: of the tables.
        inverse_regularization: larger fits the training texts more closely (scikit-learn's C).
    """
    features = count_features(texts, sizes)

    def evidence(class_id: int) -> np.ndarray:
        is_class = class_ids == class_id
        ratios = log_count_ratios(features, is_class)
        solver = LogisticRegression(
            C=inverse_regularization, solver="liblinear", fit_intercept=False, random_state=0
        )
        solver.fit(features @ sparse.diags(ratios), is_class)
        return np.asarray(solver.coef_[0] * ratios, np.float32)

    if classes == 2:
        table = evidence(1)[:, None]
    else:
        every = np.stack([evidence(class_id) for class_id in range(classes)], axis=1)
        table = every[:, 1:] - every[:, :1]
    return LinearTables(words=table[: sizes.words], pairs=table[sizes.words :])
