"""Temperature scaling: probabilities that mean what they say."""

import numpy as np
from scipy import optimize


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turns logits [N, C] into probabilities [N, C]."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def negative_log_likelihood(
    logits: np.ndarray, class_ids: np.ndarray, weights: np.ndarray, temperature: float
) -> float:
    """Weighted mean of -log p(true class) at a temperature."""
    probabilities = softmax(logits / temperature)[np.arange(len(class_ids)), class_ids]
    return float(-np.average(np.log(np.maximum(probabilities, 1e-12)), weights=weights))


def fit_temperature(
    logits: np.ndarray, class_ids: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Finds the temperature that makes the true classes most likely.

    Dividing all logits by one number changes no decision, only the confidence.

    Args:
        logits: float [N, C], of texts that were not trained on.
        class_ids: int [N].
        weights: float [N], e.g. to let sources of different size count the same.

    Returns:
        The temperature with the lowest negative log likelihood, within [1/4, 10].

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2.
    """
    weights = np.ones(len(class_ids)) if weights is None else weights

    def loss(log_temperature: float) -> float:
        temperature = float(np.exp(log_temperature))
        return negative_log_likelihood(logits, class_ids, weights, temperature)

    bounds = (np.log(1 / 4), np.log(10))
    return float(np.exp(optimize.minimize_scalar(loss, bounds=bounds, method="bounded").x))
