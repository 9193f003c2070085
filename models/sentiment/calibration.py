"""Temperature scaling: probabilities that mean what they say."""

import numpy as np
from scipy import optimize

# A part whose temperature would leave this range adds nothing, or decides alone.
SMALLEST, LARGEST = 1 / 4, 20.0


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turns logits [N, C] into probabilities [N, C]."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def calibrated_sum(parts: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
    """Adds the parts' logits, each divided by its temperature.

    Args:
        parts: float [P, N, C].
        temperatures: float [P].

    Returns:
        Logits [N, C].
    """
    return np.asarray(np.tensordot(1 / temperatures, parts, axes=1))


def fit_temperatures(
    parts: np.ndarray, class_ids: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Finds the temperatures at which the summed logits make the true classes most likely.

    With one part this is temperature scaling, which changes no decision, only the confidence.
    With several, it also weighs the parts against each other.

    Args:
        parts: float [P, N, C], logits of each part for texts that were not trained on.
        class_ids: int [N].
        weights: float [N], e.g. to let sources of different size count the same.

    Returns:
        float64 [P], each within [1/4, 20].

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2.
    """
    weights = np.ones(len(class_ids)) if weights is None else weights
    rows = np.arange(len(class_ids))

    def loss(inverse: np.ndarray) -> float:
        probabilities = softmax(calibrated_sum(parts, 1 / inverse))[rows, class_ids]
        return float(-np.average(np.log(np.maximum(probabilities, 1e-12)), weights=weights))

    start = np.full(len(parts), 1 / len(parts))
    bounds = [(1 / LARGEST, 1 / SMALLEST)] * len(parts)
    return 1 / np.asarray(optimize.minimize(loss, start, method="L-BFGS-B", bounds=bounds).x)
