"""Word vectors from GloVe text files."""

import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from models.common.splits import DataError


def initial_embeddings(
    vocabulary: Sequence[str], units: int, glove: Path | None, seed: int
) -> tuple[np.ndarray, int]:
    """Builds the first embedding matrix: GloVe vectors where known, small random ones elsewhere.

    Args:
        vocabulary: words; word i has id i + 2.
        units: embedding size; the file's vectors must have this size.
        glove: text file, one `word v1 v2 ...` a line, plain or `.gz`; None for random only.
        seed: of the random vectors.

    Returns:
        (float32 [len(vocabulary) + 2, units], number of words found in the file); row 0, the
        padding, is zero.

    Raises:
        DataError: if the file cannot be read or a vector has another size.

    Source: Pennington et al. 2014, "GloVe: Global Vectors for Word Representation".
    """
    random = np.random.default_rng(seed)
    matrix = random.normal(0.0, 0.3, (len(vocabulary) + 2, units)).astype(np.float32)
    matrix[0] = 0.0
    if glove is None:
        return matrix, 0
    ids = {word: i + 2 for i, word in enumerate(vocabulary)}
    found = 0
    for word, vector in _vectors(glove, units):
        if word in ids:
            matrix[ids[word]] = vector
            found += 1
    return matrix, found


def _vectors(path: Path, units: int) -> Iterator[tuple[str, np.ndarray]]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                word, *values = line.rstrip().split(" ")
                if len(values) != units:
                    raise DataError(
                        f"{path}:{number}: vector of size {len(values)}, expected {units} "
                        "(network.embedding_units)"
                    )
                yield word, np.asarray(values, np.float32)
    except (OSError, EOFError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read: {error}") from error
