import numpy as np
import pytest
from keras import ops
from scipy.special import expit

from models.detection.config import TINY
from models.detection.losses import DetectionLoss, cross_entropy
from models.detection.network import Decoder

LABEL = np.array([[[8, 8, 40, 40, 1], [0, 0, 0, 0, -1]]], np.float32)


def predictions_for(box, objectness, class_logits):
    """Every cell predicts `box` exactly; cells within it are sure of it, the others of nothing."""
    decoder = Decoder(TINY)
    x, y = decoder.centers[:, 0], decoder.centers[:, 1]
    inside = (x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])
    raw = np.zeros((1, len(x), 5 + len(TINY.labels)), np.float32)
    sides = np.stack([x - box[0], y - box[1], box[2] - x, box[3] - y], axis=1)
    sides = np.maximum(sides, 0.1)
    raw[0, :, :4] = np.log(sides / (2.5 * decoder.strides))
    raw[0, :, 4] = np.where(inside, objectness, -12)
    raw[0, :, 5:] = class_logits
    return raw


def parts(predictions, labels=LABEL):
    return {k: float(v) for k, v in DetectionLoss(TINY)(labels, predictions).items()}


def test_perfect_predictions_cost_little():
    found = parts(predictions_for([8, 8, 40, 40], 9, [-9, 9]))
    assert found["box"] == pytest.approx(0, abs=1e-3)
    assert found["class"] == pytest.approx(0, abs=1e-3)


def test_each_part_rises_with_its_own_mistake():
    good = parts(predictions_for([8, 8, 40, 40], 9, [-9, 9]))
    shifted = parts(predictions_for([12, 12, 44, 44], 9, [-9, 9]))
    confused = parts(predictions_for([8, 8, 40, 40], 9, [2, -2]))
    assert shifted["box"] > good["box"] + 0.5
    assert confused["class"] > good["class"] + 0.5


def test_objects_where_nothing_is_cost_objectness_alone():
    nothing = np.full_like(LABEL, 0)
    nothing[..., 4] = -1
    found = parts(predictions_for([8, 8, 40, 40], 5, [0, 0]), nothing)
    assert found["objectness"] > 5
    assert found["box"] == found["class"] == 0


def test_cross_entropy_against_its_definition():
    target = np.array([0, 0.3, 1], np.float32)
    logit = np.array([-2, 0.5, 3], np.float32)
    expected = -(target * np.log(expit(logit)) + (1 - target) * np.log(1 - expit(logit)))
    found = ops.convert_to_numpy(cross_entropy(target, logit))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_gradients_are_finite_for_wild_predictions():
    import tensorflow as tf

    wild = tf.Variable(np.random.default_rng(0).normal(0, 30, (1, 84, 7)).astype(np.float32))
    with tf.GradientTape() as tape:
        total = sum(DetectionLoss(TINY)(LABEL, wild).values())
    assert np.isfinite(float(total))
    assert np.isfinite(tape.gradient(total, wild).numpy()).all()
