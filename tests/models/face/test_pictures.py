import matplotlib.image
import numpy as np
import pytest

from models.face.pictures import (
    ShownPair,
    draw_batch,
    draw_distances,
    draw_embeddings,
    draw_pairs,
    principal_components,
)

RANDOM = np.random.default_rng(0)


def is_picture(path):
    return np.ptp(matplotlib.image.imread(path)) > 0.5


@pytest.mark.parametrize("per_identity", [1, 4, 20])
def test_a_batch_is_drawn(tmp_path, per_identity):
    images = RANDOM.integers(0, 256, (40, 16, 16, 3)).astype(np.uint8)
    draw_batch(images, per_identity, tmp_path / "batch.png")
    assert is_picture(tmp_path / "batch.png")


def test_distances_are_drawn(tmp_path):
    distances, same = RANDOM.uniform(0, 2, 50), RANDOM.random(50) < 0.5
    draw_distances(distances, same, {"accuracy": 1.0, "far_1e-2": 0.5}, tmp_path / "d.png")
    assert is_picture(tmp_path / "d.png")


@pytest.mark.parametrize(("same", "different"), [(3, 2), (0, 1), (0, 0)])
def test_pairs_are_drawn(tmp_path, same, different):
    images = RANDOM.integers(0, 256, (2, 16, 12, 3)).astype(np.uint8)
    pair = ShownPair(images[0], images[1], ("a/a_0001", "b/a_very_long_name_indeed_0001"), 0.4)
    draw_pairs([pair] * same, [pair] * different, 0.9, tmp_path / "pairs.png")
    assert is_picture(tmp_path / "pairs.png")


def test_embeddings_are_drawn(tmp_path):
    names = [f"person_{i % 13}" for i in range(60)]
    draw_embeddings(RANDOM.normal(0, 1, (60, 8)), names, tmp_path / "e.png")
    assert is_picture(tmp_path / "e.png")


def test_principal_components_keep_most_variance():
    vectors = RANDOM.normal(0, 1, (50, 5)) * np.array([0.1, 5, 0.1, 3, 0.1])
    found = principal_components(vectors, 2)
    assert np.abs(np.corrcoef(found[:, 0], vectors[:, 1])[0, 1]) > 0.99
    assert found.var(axis=0) == pytest.approx(vectors.var(axis=0)[[1, 3]], rel=0.05)
    assert principal_components(vectors[:1], 2).shape == (1, 2)
