"""Faces as vectors: embeddings, and what their distances say.

Distances are squared Euclidean ones between unit vectors, from 0 (equal) to 4 (opposite).

Source: Schroff, Kalenichenko, Philbin, FaceNet (2015), sections 3 and 4.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from protocol.errors import FailedPreconditionError, InvalidRequestError

FALSE_ACCEPT_RATES = (0.01, 0.001)
"""False-accept rates at which each model version knows its threshold, in the order it tells."""

DIMENSIONS = 128
LARGEST_DISTANCE = 4.0


@dataclass(frozen=True, eq=False)
class FaceEmbedding:
    """A face as a vector that only vectors of the same model version compare with.

    Args:
        source: Path of the image, or its place among the images, such as `images[2]`.
        vector: float32 [128] of length 1.
        model: Name of the model that made it.
        version: Version that made it; None if the server did not say.
        thresholds: That version's largest distance of the same person, by false-accept rate.
    """

    source: str
    vector: npt.NDArray[np.float32]
    model: str
    version: int | None
    thresholds: Mapping[float, float]

    @property
    def origin(self) -> str:
        """Model and version, for messages."""
        return f"model {self.model!r} version {self.version}"


@dataclass(frozen=True)
class Verification:
    """Whether two faces are the same person's.

    Args:
        same: Whether the distance is at most the threshold.
        distance: Squared Euclidean distance, 0 to 4.
        threshold: The largest distance that counts as the same person.
        far: Rate at which pairs of different people are accepted at this threshold, as measured
            on validation pairs; None where the caller chose the threshold.
    """

    same: bool
    distance: float
    threshold: float
    far: float | None


@dataclass(frozen=True)
class Candidate:
    """A person of a gallery, and how far the nearest of their examples is."""

    name: str
    distance: float


@dataclass(frozen=True)
class Identification:
    """Who a face is.

    Args:
        source: Path of the image, or its place among the images, such as `images[2]`.
        name: The nearest person; None where nobody is near enough, which means unknown.
        distance: Distance to the nearest person; None where the gallery is empty.
        threshold: The largest distance that counts as the same person.
        far: Rate at which pairs of different people are accepted; None for a threshold of the
            caller's own.
        candidates: The nearest people, nearest first, whether near enough or not.
    """

    source: str
    name: str | None
    distance: float | None
    threshold: float
    far: float | None
    candidates: tuple[Candidate, ...]


def thresholds_of(row: npt.NDArray[np.float32]) -> Mapping[float, float]:
    """Returns the thresholds by false-accept rate.

    Args:
        row: float32 [2], in the order of `FALSE_ACCEPT_RATES`.
    """
    return MappingProxyType(dict(zip(FALSE_ACCEPT_RATES, row.tolist(), strict=True)))


def chosen_threshold(
    thresholds: Mapping[float, float], far: float, threshold: float | None
) -> tuple[float, float | None]:
    """Returns the threshold to use, and the false-accept rate it stands for.

    Args:
        thresholds: What the model version knows, by false-accept rate.
        far: The rate to look up.
        threshold: The caller's own, 0 to 4, instead of a rate; None for none.

    Raises:
        InvalidRequestError: The rate is unknown, or the threshold out of range.
    """
    if threshold is not None:
        if not 0 <= threshold <= LARGEST_DISTANCE:
            raise InvalidRequestError(
                f"threshold: expected a squared distance from 0 to 4, got {threshold}"
            )
        return threshold, None
    if far not in thresholds:
        known = ", ".join(f"{rate:g}" for rate in thresholds)
        raise InvalidRequestError(f"far: expected one of {known}, got {far}")
    return thresholds[far], far


def compare(
    first: FaceEmbedding,
    second: FaceEmbedding,
    *,
    far: float = FALSE_ACCEPT_RATES[0],
    threshold: float | None = None,
) -> Verification:
    """Says whether two faces are the same person's.

    Args:
        first: One face.
        second: The other.
        far: False-accept rate whose threshold the model version knows, 0.01 or 0.001.
        threshold: A squared distance of your own, 0 to 4, instead of a rate.

    Raises:
        FailedPreconditionError: They come from different models or versions.
        InvalidRequestError: The rate is unknown, or the threshold out of range.
    """
    if (first.model, first.version) != (second.model, second.version):
        raise FailedPreconditionError(
            f"faces of {first.origin} and {second.origin} cannot be compared; "
            "embed both with the same version"
        )
    limit, rate = chosen_threshold(first.thresholds, far, threshold)
    distance = float(squared_distances(second.vector[None], first.vector)[0])
    return Verification(distance <= limit, distance, limit, rate)


def squared_distances(
    matrix: npt.NDArray[np.float32], vector: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Returns the squared distance of each row to a vector as one matrix product.

    Args:
        matrix: float32 [N, D], rows of length 1.
        vector: float32 [D] of length 1.

    Returns:
        float32 [N], 2 - 2 cos, within 0 and 4.
    """
    distances: npt.NDArray[np.float32] = matrix @ vector
    distances *= -2
    distances += 2
    return np.clip(distances, 0, LARGEST_DISTANCE, out=distances)
