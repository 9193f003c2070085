"""Losses against the papers' formulas, written as plain loops."""

import math

import keras
import numpy as np
import pytest

from models.face.config import LossConfig
from models.face.losses import AngularMarginLoss, TripletLoss, losses_by_output

PEOPLE = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
OTHERS = [np.not_equal(PEOPLE, person) for person in PEOPLE]


def unit_vectors(seed):
    vectors = np.random.default_rng(seed).normal(0, 1, (12, 6)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def value_of(loss, truth, predicted):
    return float(loss(keras.ops.convert_to_tensor(truth), keras.ops.convert_to_tensor(predicted)))


@pytest.mark.parametrize("seed", range(3))
def test_semi_hard_triplet_loss_by_hand(seed):
    vectors, margin, losses = unit_vectors(seed), 0.4, []
    distances = ((vectors[:, None] - vectors[None]) ** 2).sum(axis=2)
    for anchor in range(12):
        negatives = distances[anchor][OTHERS[anchor]]
        for positive in np.flatnonzero(~OTHERS[anchor]):
            if positive == anchor:
                continue
            near = distances[anchor, positive]
            beyond = negatives[negatives > near]
            far = beyond.min() if len(beyond) else negatives.max()
            losses.append(max(near - far + margin, 0))
    found = value_of(TripletLoss(margin, "semi_hard"), PEOPLE, vectors)
    assert found == pytest.approx(np.mean(losses), abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_batch_hard_triplet_loss_by_hand(seed):
    vectors, margin, losses = unit_vectors(seed), 0.4, []
    distances = ((vectors[:, None] - vectors[None]) ** 2).sum(axis=2)
    for anchor in range(12):
        own = ~OTHERS[anchor]
        losses.append(max(distances[anchor][own].max() - distances[anchor][~own].min() + margin, 0))
    found = value_of(TripletLoss(margin, "batch_hard"), PEOPLE, vectors)
    assert found == pytest.approx(np.mean(losses), abs=1e-5)


@pytest.mark.parametrize("mining", ["semi_hard", "batch_hard"])
def test_triplet_loss_is_zero_when_people_are_far_apart(mining):
    vectors = np.repeat(np.eye(4, dtype=np.float32), 3, axis=0)
    assert value_of(TripletLoss(0.5, mining), PEOPLE, vectors) == 0


@pytest.mark.parametrize("margin", [0.0, 0.35])
def test_angular_margin_loss_by_hand(margin):
    cosines = np.random.default_rng(0).uniform(-0.999, 0.999, (5, 7)).astype(np.float32)
    cosines[0, 0], cosines[1, 1] = 0.3, -0.999  # the second one: margin would pass pi
    truth, losses = np.arange(5), []
    for row, own in enumerate(truth):
        logits = 16.0 * cosines[row].astype(np.float64)
        angle = math.acos(cosines[row, own])
        inside = angle + margin < math.pi
        with_margin = (
            math.cos(angle + margin) if inside else cosines[row, own] - margin * math.sin(margin)
        )
        logits[own] = 16.0 * with_margin
        losses.append(np.log(np.exp(logits).sum()) - logits[own])
    found = value_of(AngularMarginLoss(margin, 16.0), truth, cosines)
    assert found == pytest.approx(np.mean(losses), rel=1e-4)


def test_angular_margin_loss_falls_as_the_own_cosine_rises():
    losses = [
        value_of(AngularMarginLoss(0.5), [0], np.array([[cosine, 0.1]], np.float32))
        for cosine in np.linspace(-1, 1, 41)
    ]
    assert np.isfinite(losses).all()
    assert (np.diff(losses) <= 0).all()


def test_only_losses_with_weight_are_used():
    assert list(losses_by_output(LossConfig())) == ["cosines"]
    both = LossConfig(triplet_weight=1.0, mining="batch_hard")
    assert losses_by_output(both)["embedding"].mining == "batch_hard"
    assert list(losses_by_output(LossConfig(angular_weight=0.0, triplet_weight=1.0))) == [
        "embedding"
    ]


@pytest.mark.parametrize("loss", [TripletLoss(0.2, "batch_hard"), AngularMarginLoss(0.1, 8.0)])
def test_a_loss_can_be_made_again_from_its_configuration(loss):
    assert type(loss).from_config(loss.get_config()).get_config() == loss.get_config()
