import dataclasses

import keras
import numpy as np
import pytest

from models.face.config import TINY
from models.face.network import UnitLength, build_network, build_trainer

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.float32)


def with_network(**values):
    return dataclasses.replace(TINY.network, **values)


def with_backbone(**values):
    return with_network(backbone=dataclasses.replace(TINY.network.backbone, **values))


LEARNED_ONLY = with_network(discriminants=dataclasses.replace(TINY.network.discriminants, units=0))


@pytest.mark.parametrize(
    "config",
    [
        TINY.network,
        LEARNED_ONLY,
        with_network(head="average"),
        with_backbone(block="inverted", expansion=2),
    ],
    ids=["both halves", "learned only", "average", "inverted"],
)
def test_embeddings_are_128_numbers_of_length_one(config):
    found = np.asarray(build_network(config).embedder(IMAGES)["embedding"])
    assert found.shape == (3, 128)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_squared_distances_are_the_weighted_mean_of_the_halves():
    config = with_network(discriminants=dataclasses.replace(TINY.network.discriminants, share=0.3))
    network = build_network(config)
    joined = np.asarray(network.embedder(IMAGES)["embedding"])
    learned = np.asarray(network.learned(IMAGES))
    fitted = joined[:, learned.shape[1] :] / np.sqrt(0.3)

    def distance(rows):
        return np.sum((rows[0] - rows[1]) ** 2)

    expected = 0.7 * distance(learned) + 0.3 * distance(fitted)
    assert distance(joined) == pytest.approx(expected, rel=1e-4)


def test_the_trainer_shares_the_learned_half():
    network = build_network(TINY.network)
    trainer = build_trainer(network.learned, 5)
    outputs = trainer(IMAGES)
    np.testing.assert_allclose(outputs["embedding"], network.learned(IMAGES), atol=1e-6)
    cosines = np.asarray(outputs["cosines"])
    assert cosines.shape == (3, 5)
    assert np.abs(cosines).max() <= 1 + 1e-5
    assert list(build_trainer(network.learned, 0)(IMAGES)) == ["embedding"]


def test_the_fitted_half_does_not_learn():
    network = build_network(TINY.network)
    trainer = build_trainer(network.learned, 5)
    learned = {variable.path for variable in trainer.trainable_variables}
    assert not [path for path in learned if "discriminants" in path]
    assert not network.projection.trainable_variables


def test_unit_length_leaves_zeros_alone():
    rows = keras.ops.convert_to_tensor([[0.0, 0.0], [3.0, 4.0]])
    np.testing.assert_allclose(UnitLength()(rows), [[0, 0], [0.6, 0.8]], atol=1e-6)


def test_weights_of_a_trainer_fit_the_learned_half(tmp_path):
    trainer = build_trainer(build_network(TINY.network).learned, 5)
    trainer.save_weights(tmp_path / "a.weights.h5")
    network = build_network(TINY.network)
    network.learned.load_weights(tmp_path / "a.weights.h5")
    np.testing.assert_allclose(network.learned(IMAGES), trainer(IMAGES)["embedding"], atol=1e-6)
