"""Mining against plain loops over all triplets."""

import numpy as np
import pytest
from keras import ops

from models.face.triplets import (
    hardest_negative,
    hardest_positive,
    positive_pairs,
    semi_hard,
    squared_distances,
)


@pytest.fixture(params=range(3))
def batch(request):
    """Unit vectors of four people with three pictures each, shuffled."""
    random = np.random.default_rng(request.param)
    vectors = random.normal(0, 1, (12, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    identities = random.permutation(np.repeat(np.arange(4), 3)).astype(np.int32)
    distances = ((vectors[:, None] - vectors[None]) ** 2).sum(axis=2)
    return vectors, identities, distances


def test_squared_distances_of_unit_vectors(batch):
    vectors, _, distances = batch
    found = ops.convert_to_numpy(squared_distances(ops.convert_to_tensor(vectors)))
    np.testing.assert_allclose(found, distances, atol=1e-5)
    assert found.min() >= 0


def test_positive_pairs_leave_the_anchor_out(batch):
    _, identities, _ = batch
    found = ops.convert_to_numpy(positive_pairs(ops.convert_to_tensor(identities)))
    expected = [[a != p and identities[a] == identities[p] for p in range(12)] for a in range(12)]
    np.testing.assert_array_equal(found, expected)


def test_semi_hard_is_the_nearest_negative_beyond_the_positive(batch):
    _, identities, distances = batch
    found = ops.convert_to_numpy(
        semi_hard(ops.convert_to_tensor(distances), ops.convert_to_tensor(identities))
    )
    for anchor in range(12):
        negatives = distances[anchor][identities != identities[anchor]]
        for positive in np.flatnonzero(identities == identities[anchor]):
            farther = negatives[negatives > distances[anchor, positive]]
            expected = farther.min() if len(farther) else negatives.max()
            assert found[anchor, positive] == pytest.approx(expected)


def test_hardest_are_the_extremes(batch):
    _, identities, distances = batch
    tensors = ops.convert_to_tensor(distances), ops.convert_to_tensor(identities)
    positives = ops.convert_to_numpy(hardest_positive(*tensors))
    negatives = ops.convert_to_numpy(hardest_negative(*tensors))
    for anchor in range(12):
        own = identities == identities[anchor]
        assert positives[anchor] == pytest.approx(distances[anchor][own].max())
        assert negatives[anchor] == pytest.approx(distances[anchor][~own].min())
