import keras
import numpy as np
import pytest

from models.segmentation.config import VOID
from models.segmentation.losses import (
    SegmentationLoss,
    class_weights,
    cross_entropy,
    dice_loss,
)

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(2, 4, 5, 3)).astype(np.float32)
CLASSES = RANDOM.integers(0, 3, (2, 4, 5)).astype(np.int32)


def softmax(logits):
    exponents = np.exp(logits)
    return exponents / exponents.sum(axis=-1, keepdims=True)


def test_cross_entropy_as_keras_computes_it():
    found = cross_entropy(CLASSES, LOGITS, [1.0, 1.0, 1.0])
    by_pixel = keras.losses.sparse_categorical_crossentropy(CLASSES, LOGITS, from_logits=True)
    expected = np.asarray(by_pixel).mean(axis=(1, 2))
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-5)


def test_class_weights_multiply_each_pixel():
    weights = np.array([0.5, 2.0, 3.0])
    by_pixel = keras.losses.sparse_categorical_crossentropy(CLASSES, LOGITS, from_logits=True)
    expected = (np.asarray(by_pixel) * weights[CLASSES]).mean(axis=(1, 2))
    found = cross_entropy(CLASSES, LOGITS, weights.tolist())
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-5)


def test_dice_by_hand():
    probability, targets = softmax(LOGITS), np.eye(3)[CLASSES]
    dice = []
    for c in range(3):
        p, g = probability[..., c], targets[..., c]
        dice.append((2 * (p * g).sum() + 1) / (p.sum() + g.sum() + 1))
    found = float(dice_loss(CLASSES, LOGITS))
    np.testing.assert_allclose(found, 1 - np.mean(dice), rtol=1e-5)


def test_absent_classes_do_not_count_in_dice():
    two = np.where(CLASSES == 2, 0, CLASSES)
    sure = np.eye(3, dtype=np.float32)[two] * 50
    np.testing.assert_allclose(float(dice_loss(two, sure)), 0.0, atol=1e-6)


def test_void_pixels_count_nowhere():
    void = CLASSES.copy()
    void[:, :2] = VOID
    changed = LOGITS.copy()
    changed[:, :2] += RANDOM.normal(size=changed[:, :2].shape)
    loss = SegmentationLoss([1.0, 2.0, 3.0], 0.5)
    np.testing.assert_allclose(
        float(loss(void, LOGITS)), float(loss(void, changed.astype(np.float32))), rtol=1e-6
    )
    entropy = cross_entropy(void, LOGITS, [1.0] * 3)
    kept = cross_entropy(CLASSES[:, 2:], LOGITS[:, 2:], [1.0] * 3)
    np.testing.assert_allclose(np.asarray(entropy), np.asarray(kept), rtol=1e-5)


def test_all_void_is_no_loss_and_no_nan():
    void = np.full_like(CLASSES, VOID)
    assert float(SegmentationLoss([1.0] * 3, 0.0)(void, LOGITS)) == 0.0
    assert np.isfinite(float(SegmentationLoss([1.0] * 3, 0.5)(void, LOGITS)))


def test_loss_mixes_both_parts_and_survives_a_round_trip():
    loss = SegmentationLoss([1.0, 2.0, 3.0], 0.25)
    entropy = np.asarray(cross_entropy(CLASSES, LOGITS, [1.0, 2.0, 3.0])).mean()
    expected = 0.75 * entropy + 0.25 * float(dice_loss(CLASSES, LOGITS))
    np.testing.assert_allclose(float(loss(CLASSES, LOGITS)), expected, rtol=1e-5)
    copy = SegmentationLoss.from_config(loss.get_config())
    np.testing.assert_allclose(float(copy(CLASSES, LOGITS)), expected, rtol=1e-5)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_weights_balance_the_classes(power):
    frequencies = [0.7, 0.2, 0.1]
    weights = class_weights(frequencies, power)
    ratio = (0.7 / 0.1) ** power
    np.testing.assert_allclose(weights[2] / weights[0], ratio)
    np.testing.assert_allclose(np.dot(weights, frequencies), 1.0)


def test_absent_class_keeps_weight_one_before_scaling():
    assert class_weights([0.0, 0.0], 1.0) == [1.0, 1.0]
    weights = class_weights([0.5, 0.0, 0.5], 1.0)
    np.testing.assert_allclose(weights, [1.0, 1.0, 1.0])
