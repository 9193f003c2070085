import numpy as np
import pytest

from models.sentiment.calibration import calibrated_sum, fit_temperatures, softmax


def draw(logits, random):
    return (random.random(len(logits)) < softmax(logits)[:, 1]).astype(int)


def test_softmax_of_large_logits_is_finite():
    np.testing.assert_allclose(softmax(np.array([[1e4, 0.0]])), [[1.0, 0.0]])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_finds_the_temperature_that_made_the_labels(temperature):
    random = np.random.default_rng(0)
    parts = random.normal(0, 2, (1, 20_000, 2)) * temperature
    truth = draw(parts[0] / temperature, random)
    assert fit_temperatures(parts, truth) == pytest.approx([temperature], rel=0.05)


def test_finds_how_two_parts_made_the_labels():
    random = np.random.default_rng(0)
    parts = random.normal(0, 2, (2, 50_000, 2))
    expected = np.array([2.0, 0.8])
    truth = draw(calibrated_sum(parts, expected), random)
    np.testing.assert_allclose(fit_temperatures(parts, truth), expected, rtol=0.07)


def test_a_part_that_knows_nothing_is_turned_down():
    random = np.random.default_rng(0)
    parts = random.normal(0, 2, (2, 20_000, 2))
    useful, useless = fit_temperatures(parts, draw(parts[0], random))
    assert useful == pytest.approx(1.0, rel=0.1)
    assert useless > 10


def test_weights_choose_which_texts_count():
    logits = np.array([[[2.0, 0.0]] * 10 + [[0.0, 2.0]] * 10])
    truth = np.array([0] * 9 + [1] + [0] * 5 + [1] * 5)
    (first,) = fit_temperatures(logits, truth, np.array([1.0] * 10 + [0.0] * 10))
    (second,) = fit_temperatures(logits, truth, np.array([0.0] * 10 + [1.0] * 10))
    assert first < 1.0 < second
