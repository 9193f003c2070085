import keras
import numpy as np
import pytest

from models.translation.losses import SmoothedCrossEntropy, token_losses

TOKENS = np.array([[5, 3, 0], [4, 0, 0]])


def logits(seed=0, classes=7):
    return np.random.default_rng(seed).normal(size=(*TOKENS.shape, classes)).astype(np.float32)


def test_equals_kerass_cross_entropy_with_label_smoothing():
    values = logits()
    own = keras.ops.convert_to_numpy(token_losses(TOKENS, values, smoothing=0.1))
    smoothed = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=0.1, reduction=None
    )
    expected = smoothed(np.eye(7)[TOKENS], values)
    np.testing.assert_allclose(
        own, np.where(TOKENS == 0, 0, keras.ops.convert_to_numpy(expected)), rtol=1e-5
    )


def test_without_smoothing_is_the_negative_log_likelihood():
    values = logits()
    own = keras.ops.convert_to_numpy(token_losses(TOKENS, values))
    shares = np.exp(values) / np.exp(values).sum(axis=-1, keepdims=True)
    expected = -np.log(np.take_along_axis(shares, TOKENS[..., None], axis=-1))[..., 0]
    np.testing.assert_allclose(own, np.where(TOKENS == 0, 0, expected), rtol=1e-5)


def test_mean_over_the_batch_is_the_mean_over_its_tokens():
    values = logits()
    loss = SmoothedCrossEntropy(0.1)
    own = float(loss(TOKENS, values))
    total = float(keras.ops.sum(token_losses(TOKENS, values, 0.1)))
    assert own == pytest.approx(total / 3, rel=1e-5)


def test_padding_changes_nothing():
    values = logits()
    wider = np.pad(values, ((0, 0), (0, 2), (0, 0)), constant_values=3.0)
    loss = SmoothedCrossEntropy(0.1)
    padded = np.pad(TOKENS, ((0, 0), (0, 2)))
    assert float(loss(padded, wider)) == pytest.approx(float(loss(TOKENS, values)), rel=1e-5)


def test_a_batch_of_padding_costs_nothing():
    assert float(SmoothedCrossEntropy(0.1)(np.zeros((2, 3)), logits())) == 0.0


def test_survives_serialisation():
    loss = SmoothedCrossEntropy(0.2)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert float(again(TOKENS, logits())) == pytest.approx(float(loss(TOKENS, logits())))
