"""Metrics of verification and identification, as pure functions of distances."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

FALSE_ACCEPT_RATES: Mapping[str, float] = {"far_1e-2": 0.01, "far_1e-3": 0.001}
BEST_ACCURACY = "accuracy"


def squared_distances(embeddings: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances of pairs.

    Args:
        embeddings: unit vectors, float [N, D].
        rows: which two embeddings, int [P, 2].

    Returns:
        float64 [P], 0 to 4.
    """
    differences = embeddings[rows[:, 0]].astype(np.float64) - embeddings[rows[:, 1]]
    return np.sum(differences**2, axis=1)


@dataclass(frozen=True)
class Curve:
    """The ROC curve: what happens as the threshold on the distance rises.

    A pair is accepted when its distance is at or below the threshold. The first point accepts
    nothing; then follows one point for each distinct distance.

    Attributes:
        thresholds: float [T], rising; the first lies below every distance.
        false_accepts: share of different pairs accepted, float [T], rising from 0 to 1.
        true_accepts: share of same pairs accepted, float [T], rising from 0 to 1.
    """

    thresholds: np.ndarray
    false_accepts: np.ndarray
    true_accepts: np.ndarray


def roc_curve(distances: np.ndarray, same: np.ndarray) -> Curve:
    """Computes the ROC curve.

    Args:
        distances: float [P].
        same: bool [P]; both kinds must be there.

    Raises:
        ValueError: if all pairs are of one kind.
    """
    positives, negatives = int(same.sum()), int((~same).sum())
    if not positives or not negatives:
        raise ValueError(f"need same and different pairs, got {positives} and {negatives}")
    order = np.argsort(distances, kind="stable")
    ordered, accepted = distances[order], same[order]
    last_of_tie = np.append(np.diff(ordered) != 0, True)
    return Curve(
        np.append(-1.0, ordered[last_of_tie]),
        np.append(0.0, np.cumsum(~accepted)[last_of_tie] / negatives),
        np.append(0.0, np.cumsum(accepted)[last_of_tie] / positives),
    )


def roc_auc(curve: Curve) -> float:
    """Area under the ROC curve, by trapezoids."""
    return float(np.trapezoid(curve.true_accepts, curve.false_accepts))


def equal_error_rate(curve: Curve) -> float:
    """The error rate at which false accepts and false rejects are equally frequent.

    Between two points of the curve both are taken to change linearly.
    """
    gap = curve.false_accepts - (1.0 - curve.true_accepts)  # rises from -1 to 1
    after = int(np.argmax(gap >= 0))
    before = max(after - 1, 0)
    width = gap[after] - gap[before]
    share = -gap[before] / width if width > 0 else 1.0
    low, high = curve.false_accepts[before], curve.false_accepts[after]
    return float(low + share * (high - low))


def accept_rates(distances: np.ndarray, same: np.ndarray, threshold: float) -> tuple[float, float]:
    """Returns the shares of same and of different pairs at or below a threshold."""
    accepted = distances <= threshold
    return float(accepted[same].mean()), float(accepted[~same].mean())


def accuracy_at(distances: np.ndarray, same: np.ndarray, threshold: float) -> float:
    """Share of pairs judged rightly, same and different pairs having equal weight.

    On a balanced list, as LFW's are, this is the plain share; on all pairs of a folder, where
    hardly any is of one person, the plain share would say nothing.
    """
    true_accepts, false_accepts = accept_rates(distances, same, threshold)
    return (true_accepts + 1.0 - false_accepts) / 2


def best_accuracy_threshold(curve: Curve) -> float:
    """Returns the threshold of highest `accuracy_at`: the middle of the gap to the next distance.

    Of several equally good ones the lowest is taken.
    """
    best = int(np.argmax(curve.true_accepts - curve.false_accepts))
    following = curve.thresholds[min(best + 1, len(curve.thresholds) - 1)]
    return float((max(curve.thresholds[best], 0.0) + following) / 2)


def threshold_at_far(curve: Curve, rate: float) -> float:
    """Returns the highest measured distance at which at most `rate` of different pairs pass.

    Zero, which accepts nothing but copies, where even the nearest different pair is too many.
    """
    index = int(np.searchsorted(curve.false_accepts, rate, side="right")) - 1
    return float(max(curve.thresholds[index], 0.0))


def derive_thresholds(
    distances: np.ndarray, same: np.ndarray, weights_of: np.ndarray | None = None
) -> dict[str, float]:
    """Finds the thresholds that a version carries.

    Args:
        distances: float [P], of validation pairs.
        same: bool [P].
        weights_of: bool [P], the pairs by which best accuracy is judged; None takes all. The
            false-accept rates are always taken over all different pairs: a rate of 0.1 % needs
            thousands of them.

    Returns:
        `accuracy`, `far_1e-2` and `far_1e-3` -> squared distance.
    """
    judged = slice(None) if weights_of is None else weights_of
    curve = roc_curve(distances, same)
    return {
        BEST_ACCURACY: best_accuracy_threshold(roc_curve(distances[judged], same[judged])),
        **{name: threshold_at_far(curve, rate) for name, rate in FALSE_ACCEPT_RATES.items()},
    }


def rank1_identification(embeddings: np.ndarray, identities: np.ndarray) -> float:
    """Share of pictures recognised from a gallery with one picture of each identity.

    Every picture whose identity has another one is a probe. The result is the exact mean over all
    choices of the gallery's pictures, each as likely as the other: for a probe p and a picture g
    of its own identity, the chance that g is nearer than the picture drawn from each other
    identity b is the product over b of the share of b's pictures farther from p than g.
    Identities with a single picture only fill the gallery.

    Args:
        embeddings: unit vectors, float [N, D].
        identities: int [N].

    Returns:
        0 to 1; NaN if no identity has two pictures.
    """
    _, identities, sizes = np.unique(identities, return_inverse=True, return_counts=True)
    probes = np.flatnonzero(sizes[identities] > 1)
    chances = [_chance_of_rank1(embeddings, identities, sizes, int(probe)) for probe in probes]
    return float(np.mean(chances)) if chances else float("nan")


def _chance_of_rank1(
    embeddings: np.ndarray, identities: np.ndarray, sizes: np.ndarray, probe: int
) -> float:
    distances = 2.0 - 2.0 * embeddings @ embeddings[probe]
    own = np.flatnonzero(identities == identities[probe])
    own = own[own != probe]
    others = np.arange(len(sizes)) != identities[probe]
    chances = []
    for picture in own:
        farther = np.bincount(identities, distances > distances[picture], minlength=len(sizes))
        chances.append(np.prod((farther / sizes)[others]))
    return float(np.mean(chances))
