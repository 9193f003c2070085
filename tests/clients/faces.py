"""Embeddings for tests: unit vectors at chosen distances."""

from collections.abc import Mapping

import numpy as np

from clients.embeddings import DIMENSIONS, FaceEmbedding

THRESHOLDS: Mapping[float, float] = {0.01: 1.0, 0.001: 0.5}


def face(
    angle: float = 0.0,
    *,
    axis: int = 1,
    source: str = "image",
    model: str = "face",
    version: int | None = 1,
    thresholds: Mapping[float, float] = THRESHOLDS,
) -> FaceEmbedding:
    """Returns a vector turned from the first axis towards another by an angle in radians.

    Two of the same axis are 2 - 2 cos(difference) apart.
    """
    vector = np.zeros(DIMENSIONS, np.float32)
    vector[0], vector[axis] = np.cos(angle), np.sin(angle)
    return FaceEmbedding(source, vector, model, version, thresholds)


def random_faces(count: int, seed: int = 0) -> list[FaceEmbedding]:
    """Returns random unit vectors, which are all about 2 apart."""
    vectors = np.random.default_rng(seed).normal(size=(count, DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [
        FaceEmbedding(f"{row}.png", vector, "face", 1, THRESHOLDS)
        for row, vector in enumerate(vectors)
    ]
