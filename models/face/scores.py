"""What `evaluate` prints: embeddings of labelled faces in, metrics out."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from models.face.metrics import (
    BEST_ACCURACY,
    accept_rates,
    accuracy_at,
    equal_error_rate,
    rank1_identification,
    roc_auc,
    roc_curve,
    squared_distances,
)


@dataclass(frozen=True)
class Scores:
    """Measures of verification and identification.

    Those of a threshold use the model's own, derived on the identities that its training held
    out; the rate in such a name is the one aimed at there, `far_at_...` is what it came to here.

    Attributes:
        accuracy: share of pairs judged rightly, same and different ones with equal weight.
        roc_auc: area under the ROC curve.
        eer: error rate where false accepts and false rejects are equally frequent.
        tar_at_far_1e_2: share of same pairs accepted at the threshold for one false accept in
            100.
        tar_at_far_1e_3: the same for one in 1,000.
        far_at_far_1e_2: share of different pairs accepted at the first of these thresholds.
        far_at_far_1e_3: at the second.
        rank1: chance to recognise a picture from a gallery of one picture a person.
        same: number of same pairs.
        different: number of different pairs.
        n: number of pictures.
    """

    accuracy: float
    roc_auc: float
    eer: float
    tar_at_far_1e_2: float
    tar_at_far_1e_3: float
    far_at_far_1e_2: float
    far_at_far_1e_3: float
    rank1: float
    same: int
    different: int
    n: int

    def as_dict(self) -> dict[str, float]:
        """Returns the measures by the names in use, e.g. `tar_at_far_1e-2`."""
        return {name.replace("1e_", "1e-"): value for name, value in asdict(self).items()}


def score(
    embeddings: np.ndarray,
    identities: np.ndarray,
    rows: np.ndarray,
    same: np.ndarray,
    thresholds: Mapping[str, float],
) -> Scores:
    """Computes all measures.

    Args:
        embeddings: unit vectors, float [N, D].
        identities: int [N].
        rows: the pairs to judge, int [P, 2].
        same: whether a pair is one person, bool [P].
        thresholds: the model's own, squared distances: `accuracy`, `far_1e-2`, `far_1e-3`.

    Raises:
        ValueError: if all pairs are of one kind.
    """
    distances = squared_distances(embeddings, rows)
    curve = roc_curve(distances, same)
    true_2, false_2 = accept_rates(distances, same, thresholds["far_1e-2"])
    true_3, false_3 = accept_rates(distances, same, thresholds["far_1e-3"])
    return Scores(
        accuracy=accuracy_at(distances, same, thresholds[BEST_ACCURACY]),
        roc_auc=roc_auc(curve),
        eer=equal_error_rate(curve),
        tar_at_far_1e_2=true_2,
        tar_at_far_1e_3=true_3,
        far_at_far_1e_2=false_2,
        far_at_far_1e_3=false_3,
        rank1=rank1_identification(embeddings, identities),
        same=int(same.sum()),
        different=int((~same).sum()),
        n=len(embeddings),
    )
