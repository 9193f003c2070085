"""Class evidence of single words and word pairs, counted on the training texts.

It initialises the linear part of the network: a classifier that starts from these log-count
ratios learns faster and ends better than one that starts from zero.

Source: Wang and Manning 2012, "Baselines and Bigrams", section 2.2 (NB features for NBSVM).
"""

from collections.abc import Sequence

import numpy as np

# Multipliers of the pair hash: with ids below 2^15 the sum stays below 2^31, so the same int32
# arithmetic gives the same bucket in NumPy, TensorFlow, JAX and ONNX Runtime.
FIRST_MULTIPLIER = 40_503
SECOND_MULTIPLIER = 24_989


def hash_bigrams(token_ids: np.ndarray, buckets: int) -> np.ndarray:
    """Maps each pair of neighbouring ids to a bucket.

    Args:
        token_ids: int [T], ids below 2^15, without padding.
        buckets: number of buckets.

    Returns:
        int64 [T - 1], values 0..buckets-1.
    """
    ids = np.asarray(token_ids, np.int64)
    return (ids[:-1] * FIRST_MULTIPLIER + ids[1:] * SECOND_MULTIPLIER) % buckets


def log_count_ratios(
    features: Sequence[np.ndarray], class_ids: Sequence[int], sizes: tuple[int, int]
) -> np.ndarray:
    """Computes how much more often each feature occurs in a class than in class 0.

    r[f, c] = log( (p[f, c+1] / |p[c+1]|) / (p[f, 0] / |p[0]|) ) with p one plus the number of
    texts of the class that hold feature f: positive where f speaks for class c + 1.

    Args:
        features: for each text, int [n] feature ids; repeats count once.
        class_ids: the class of each text, 0..classes-1.
        sizes: (number of features, number of classes).

    Returns:
        float32 [features, classes - 1].
    """
    counts = np.ones(sizes, np.float64)
    for ids, class_id in zip(features, class_ids, strict=True):
        counts[np.unique(ids), class_id] += 1
    shares = np.log(counts / counts.sum(axis=0))
    return np.asarray(shares[:, 1:] - shares[:, :1], np.float32)
