"""Which triplets of a batch the loss looks at: all shapes fixed, on any Keras backend.

A triplet is an anchor a, a positive p of the same identity and a negative n of another. Both
choices start from the matrix of squared distances within a batch of P identities with K pictures.
"""

import keras
from keras import ops

# Stands for "no such picture": above 4, the largest squared distance of two unit vectors.
NO_DISTANCE = 1e3


def squared_distances(embeddings: keras.KerasTensor) -> keras.KerasTensor:
    """Returns |x_i - x_j|^2 for unit vectors float [N, D]: float [N, N], 0 to 4."""
    return ops.maximum(2.0 - 2.0 * ops.matmul(embeddings, ops.transpose(embeddings)), 0.0)


def same_identity(identities: keras.KerasTensor) -> keras.KerasTensor:
    """Compares identities int [N] with each other: bool [N, N]."""
    return ops.equal(identities[:, None], identities[None, :])


def positive_pairs(identities: keras.KerasTensor) -> keras.KerasTensor:
    """Marks anchors and their positives, the anchor itself left out: bool [N, N]."""
    rows = ops.arange(ops.shape(identities)[0])
    return ops.logical_and(same_identity(identities), rows[:, None] != rows[None, :])


def semi_hard(distances: keras.KerasTensor, identities: keras.KerasTensor) -> keras.KerasTensor:
    """Finds for each anchor and positive the nearest negative that is farther than the positive.

    Where there is none, the farthest negative stands in. Such negatives lie inside the margin
    without being the batch's mislabelled or hopeless ones, at which training can collapse.

    Args:
        distances: float [N, N] from `squared_distances`.
        identities: int [N].

    Returns:
        Squared distance from the anchor to that negative, float [N, N] over (anchor, positive).

    Source: Schroff et al. 2015, "FaceNet", equation 4.
    """
    negative = ops.logical_not(same_identity(identities))
    farther = distances[:, None, :] > distances[:, :, None]  # (anchor, positive, negative)
    eligible = ops.logical_and(negative[:, None, :], farther)
    nearest = ops.min(ops.where(eligible, distances[:, None, :], NO_DISTANCE), axis=2)
    farthest = ops.max(ops.where(negative, distances, 0.0), axis=1, keepdims=True)
    return ops.where(nearest < NO_DISTANCE, nearest, farthest)


def hardest_positive(
    distances: keras.KerasTensor, identities: keras.KerasTensor
) -> keras.KerasTensor:
    """Returns each anchor's distance to its farthest positive, float [N]; 0 where it has none.

    Source: Hermans et al. 2017, "In Defense of the Triplet Loss", equation 5.
    """
    return ops.max(ops.where(positive_pairs(identities), distances, 0.0), axis=1)


def hardest_negative(
    distances: keras.KerasTensor, identities: keras.KerasTensor
) -> keras.KerasTensor:
    """Returns each anchor's distance to its nearest negative, float [N].

    Source: Hermans et al. 2017, "In Defense of the Triplet Loss", equation 5.
    """
    return ops.min(ops.where(same_identity(identities), NO_DISTANCE, distances), axis=1)
