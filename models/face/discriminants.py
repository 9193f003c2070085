"""Linear discriminants: the directions in which people differ more than pictures of one person."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Projection:
    """An affine map of features, float32: x -> x @ kernel [F, D] + bias [D]."""

    kernel: np.ndarray
    bias: np.ndarray


def fit_discriminants(
    features: np.ndarray,
    identities: np.ndarray,
    units: int,
    components: int,
    shrinkage: float,
    most_per_identity: int,
) -> Projection:
    """Fits linear discriminant analysis after a reduction by principal components.

    1. The `components` principal components of all features.
    2. The covariance S_w within identities, a share `shrinkage` of its mean variance added to the
       diagonal; the space is whitened by it: what varies between pictures of one person counts
       little.
    3. Of the identities' means in that space, the `units` principal components.

    Args:
        features: float [N, F].
        identities: int [N], each at least twice.
        units: length of the result; where there are fewer identities, the rest is zero.
        components: dimensions kept by step 1, at most min(N, F).
        shrinkage: see step 2; more is smoother.
        most_per_identity: beyond so many pictures an identity has no more weight in S_w.

    Source: Belhumeur et al. 1997, "Eigenfaces vs. Fisherfaces", section 2.4; shrinkage as in
    Friedman 1989, "Regularized Discriminant Analysis", equation 18.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    centred = (features - mean).astype(np.float32)
    principal = _principal_directions(centred, components)  # (F, components)
    reduced = centred.astype(np.float64) @ principal
    _, numbers, counts = np.unique(identities, return_inverse=True, return_counts=True)
    means = _mean_by_identity(reduced, numbers, counts)
    within = reduced - means[numbers]
    weights = np.minimum(counts, most_per_identity)[numbers] / counts[numbers]
    covariance = (within * weights[:, None]).T @ within / weights.sum()
    covariance += shrinkage * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    variances, axes = np.linalg.eigh(covariance)
    whitening = axes / np.sqrt(variances)
    between = means @ whitening
    _, _, directions = np.linalg.svd(between - between.mean(axis=0), full_matrices=False)
    kernel = np.zeros((features.shape[1], units))
    kernel[:, : len(directions)] = principal @ whitening @ directions[:units].T
    return Projection(kernel.astype(np.float32), (-mean @ kernel).astype(np.float32))


def _principal_directions(centred: np.ndarray, count: int) -> np.ndarray:
    """Returns the eigenvectors of the largest eigenvalues, float64 [F, count]."""
    from scipy.linalg import eigh

    covariance = (centred.T @ centred).astype(np.float64) / len(centred)
    size = len(covariance)
    count = min(count, size, len(centred) - 1)
    return eigh(covariance, subset_by_index=[size - count, size - 1])[1]


def _mean_by_identity(values: np.ndarray, numbers: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Averages float [N, D] over identities numbered from 0: float [C, D]."""
    sums = np.zeros((len(counts), values.shape[1]))
    np.add.at(sums, numbers, values)
    return sums / counts[:, None]
