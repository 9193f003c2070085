import numpy as np
import pytest

from models.sentiment.calibration import fit_temperature, negative_log_likelihood, softmax


def test_softmax_of_large_logits_is_finite():
    np.testing.assert_allclose(softmax(np.array([[1e4, 0.0]])), [[1.0, 0.0]])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_finds_the_temperature_that_made_the_labels(temperature):
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (20_000, 2)) * temperature
    truth = (random.random(20_000) < softmax(logits / temperature)[:, 1]).astype(int)
    assert fit_temperature(logits, truth) == pytest.approx(temperature, rel=0.05)


def test_weights_choose_which_texts_count():
    logits = np.array([[2.0, 0.0]] * 10 + [[0.0, 2.0]] * 10)
    truth = np.array([0] * 9 + [1] + [0] * 5 + [1] * 5)
    first = fit_temperature(logits, truth, np.array([1.0] * 10 + [0.0] * 10))
    second = fit_temperature(logits, truth, np.array([0.0] * 10 + [1.0] * 10))
    assert first < second
    assert negative_log_likelihood(logits[:10], truth[:10], np.ones(10), first) <= (
        negative_log_likelihood(logits[:10], truth[:10], np.ones(10), 1.0)
    )
