"""The search in memory, against one distance after another."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.embeddings import Candidate, FaceEmbedding
from clients.gallery_index import GalleryIndex
from tests.clients.faces import random_faces


def index_of(names: list[str], faces: list[FaceEmbedding], steps: int = 1) -> GalleryIndex:
    """Builds an index in some steps."""
    index = GalleryIndex.empty()
    ids = range(1, len(names) + 1)
    for part in np.array_split(np.arange(len(names)), steps):
        index = index.extended(
            [ids[row] for row in part],
            [names[row] for row in part],
            [faces[row].vector.tobytes() for row in part],
        )
    return index


def expected(
    names: list[str], faces: list[FaceEmbedding], probe: FaceEmbedding
) -> dict[str, float]:
    """Returns the distance of the nearest example of each person, one after another."""
    best: dict[str, float] = {}
    for name, found in zip(names, faces, strict=True):
        distance = float(np.square(found.vector - probe.vector).sum())
        best[name] = min(distance, best.get(name, 9))
    return best


@given(
    names=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=30),
    steps=st.integers(1, 4),
    top=st.integers(1, 10),
)
def test_nearest_people(names: list[str], steps: int, top: int) -> None:
    probe, *faces = random_faces(len(names) + 1, seed=len(names))
    index = index_of(names, faces, steps)
    best = expected(names, faces, probe)
    ordered = sorted(best.items(), key=lambda entry: entry[1])[:top]
    found = index.nearest(probe.vector, top)
    assert [candidate.name for candidate in found] == [name for name, _ in ordered]
    assert [candidate.distance for candidate in found] == pytest.approx(
        [distance for _, distance in ordered], abs=1e-5
    )
    for name, distance in best.items():
        assert index.distance(name, probe.vector) == pytest.approx(distance, abs=1e-5)


def test_nobody() -> None:
    [probe] = random_faces(1)
    assert GalleryIndex.empty().nearest(probe.vector, 5) == ()
    assert GalleryIndex.empty().distance("a", probe.vector) is None


def test_extending_leaves_the_former_index_as_it_was() -> None:
    faces = random_faces(3)
    before = index_of(["a", "b"], faces[:2])
    after = before.extended([9], ["a"], [faces[2].vector.tobytes()])
    assert before.names == after.names == ("a", "b")
    assert (before.last_id, after.last_id) == (2, 9)
    assert before.distance("a", faces[2].vector) != pytest.approx(0, abs=1e-5)
    assert after.nearest(faces[2].vector, 1) == (Candidate("a", pytest.approx(0, abs=1e-5)),)
    assert after.extended([], [], []) is after
