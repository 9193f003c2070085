"""Which pairs of faces are compared where no list names them."""

import hashlib
from collections.abc import Iterator
from itertools import combinations

import numpy as np

from models.face.data import Face, FaceSet, Pair

# Enough for every measure; more would only take time.
MOST_PAIRS = 200_000
PAIRS_PER_IDENTITY = 10


def pairs_to_compare(faces: FaceSet) -> tuple[Pair, ...]:
    """Returns the listed pairs, else all pairs, else, if those are too many, a balanced sample."""
    if faces.pairs:
        return faces.pairs
    count = len(faces.faces)
    if count * (count - 1) // 2 <= MOST_PAIRS:
        return all_pairs(faces)
    return balanced_pairs(faces)


def all_pairs(faces: FaceSet) -> tuple[Pair, ...]:
    """Returns every pair of two different pictures."""
    identities = faces.identities
    return tuple(
        Pair(first, second, bool(identities[first] == identities[second]))
        for first, second in combinations(range(len(faces.faces)), 2)
    )


def balanced_pairs(faces: FaceSet, per_identity: int = PAIRS_PER_IDENTITY) -> tuple[Pair, ...]:
    """Makes as many same as different pairs, always the same ones for the same faces.

    Same: up to `per_identity` pairs of each identity, chosen by a hash of the pictures' names.
    Different: two identities at random, and of each a picture at random, as for the lists of LFW
    (Huang et al. 2007, section 3); no pair twice.
    """
    rows = _rows_by_identity(faces)
    same = [
        Pair(*pair, same=True)
        for own in rows
        for pair in sorted(combinations(own, 2), key=lambda pair: _hash(faces.faces, pair))[
            :per_identity
        ]
    ]
    possible = sum(len(own) * (len(faces.faces) - len(own)) for own in rows) // 2
    different: dict[tuple[int, int], None] = {}
    draw = _draw_different(rows)
    while len(different) < min(len(same), possible):
        different[next(draw)] = None
    return (*same, *(Pair(*pair, same=False) for pair in different))


def _draw_different(rows: list[list[int]]) -> Iterator[tuple[int, int]]:
    random = np.random.default_rng(0)
    while True:
        one, other = random.choice(len(rows), 2, replace=False)
        first, second = random.choice(rows[one]), random.choice(rows[other])
        yield min(int(first), int(second)), max(int(first), int(second))


def _rows_by_identity(faces: FaceSet) -> list[list[int]]:
    rows: dict[int, list[int]] = {}
    for row, identity in enumerate(faces.identities):
        rows.setdefault(int(identity), []).append(row)
    return [rows[identity] for identity in sorted(rows)]


def _hash(faces: tuple[Face, ...], pair: tuple[int, int]) -> str:
    names = f"{faces[pair[0]].name} {faces[pair[1]].name}"
    return hashlib.sha256(names.encode()).hexdigest()


def as_arrays(pairs: tuple[Pair, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Returns indices int [P, 2] and whether both are one person, bool [P]."""
    rows = np.array([(pair.first, pair.second) for pair in pairs], np.int64).reshape(-1, 2)
    return rows, np.array([pair.same for pair in pairs], bool)
