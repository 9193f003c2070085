"""Metrics of a classifier, as pure functions of class ids and probabilities."""

from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class Metrics:
    """What `evaluate` prints.

    For two classes, `f1` and `roc_auc` are those of the second one; for more, they are averaged
    over the classes with equal weight.
    """

    accuracy: float
    f1: float
    roc_auc: float
    ece: float
    n: int

    def as_dict(self) -> dict[str, float]:
        """Returns the metrics by name."""
        return asdict(self)


def compute_metrics(class_ids: np.ndarray, probabilities: np.ndarray) -> Metrics:
    """Computes all metrics.

    Args:
        class_ids: int [N], the true classes.
        probabilities: float [N, C].
    """
    predicted = probabilities.argmax(axis=1)
    classes = range(probabilities.shape[1])
    scored = [1] if len(classes) == 2 else list(classes)
    return Metrics(
        accuracy=float(np.mean(predicted == class_ids)),
        f1=float(np.mean([f1_score(class_ids == c, predicted == c) for c in scored])),
        roc_auc=float(np.mean([roc_auc(class_ids == c, probabilities[:, c]) for c in scored])),
        ece=expected_calibration_error(class_ids, probabilities),
        n=len(class_ids),
    )


def confusion_matrix(class_ids: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts [true class, predicted class]: int64 [classes, classes]."""
    flat = np.bincount(class_ids * classes + predicted, minlength=classes * classes)
    return flat.reshape(classes, classes)


def f1_score(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Harmonic mean of precision and recall of a boolean prediction; 0 where neither exists.

    Args:
        truth: bool [N].
        predicted: bool [N].
    """
    true_positives = int(np.sum(truth & predicted))
    total = int(np.sum(truth)) + int(np.sum(predicted))
    return 2.0 * true_positives / total if total else 0.0


def roc_auc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Chance that a positive scores above a negative, ties counted half; NaN if one kind is absent.

    Args:
        truth: bool [N].
        scores: float [N].

    Source: the Mann-Whitney U statistic (Hanley and McNeil 1982).
    """
    positives = int(np.sum(truth))
    negatives = len(truth) - positives
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last_rank = np.cumsum(counts)
    ranks = (last_rank - (counts - 1) / 2)[inverse]  # ties share the mean of their ranks
    u_statistic = ranks[truth].sum() - positives * (positives + 1) / 2
    return float(u_statistic / (positives * negatives))


def expected_calibration_error(
    class_ids: np.ndarray, probabilities: np.ndarray, bins: int = 15
) -> float:
    """Mean gap between confidence and accuracy over bins of equal confidence width.

    ECE = sum over bins of |B| / N * |accuracy(B) - confidence(B)|.

    Args:
        class_ids: int [N].
        probabilities: float [N, C].
        bins: number of bins over (0, 1].

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3.
    """
    curve = calibration_curve(class_ids, probabilities, bins)
    gaps = np.abs(curve.accuracy - curve.confidence) * curve.count
    return float(gaps.sum() / max(1, curve.count.sum()))


@dataclass(frozen=True)
class CalibrationCurve:
    """Accuracy, mean confidence and number of texts in each bin that holds any: [bins used]."""

    accuracy: np.ndarray
    confidence: np.ndarray
    count: np.ndarray


def calibration_curve(
    class_ids: np.ndarray, probabilities: np.ndarray, bins: int = 15
) -> CalibrationCurve:
    """Groups predictions by confidence; see `expected_calibration_error` for the arguments."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == class_ids
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    used = count > 0
    accuracy = np.bincount(index, weights=correct, minlength=bins)[used] / count[used]
    mean = np.bincount(index, weights=confidence, minlength=bins)[used] / count[used]
    return CalibrationCurve(accuracy, mean, count[used])
