"""The embeddings of a gallery in memory, searched with one matrix product."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from clients.embeddings import DIMENSIONS, Candidate, squared_distances


@dataclass(frozen=True, eq=False)
class GalleryIndex:
    """Examples of faces and whose they are; never changed, only replaced.

    Args:
        names: The people, by number.
        people: Number of each example's person, int64 [N].
        matrix: Embedding of each example, float32 [N, D], rows of length 1.
        last_id: Largest id of an example that is in; ids only grow.
    """

    names: tuple[str, ...]
    people: npt.NDArray[np.int64]
    matrix: npt.NDArray[np.float32]
    last_id: int
    _by_person: npt.NDArray[np.intp] = field(init=False, repr=False)  # examples, person by person
    _starts: npt.NDArray[np.intp] = field(init=False, repr=False)  # where each person begins there

    def __post_init__(self) -> None:
        by_person = np.argsort(self.people, kind="stable")
        starts = np.searchsorted(self.people[by_person], np.arange(len(self.names)))
        object.__setattr__(self, "_by_person", by_person)
        object.__setattr__(self, "_starts", starts)

    @classmethod
    def empty(cls) -> "GalleryIndex":
        """Returns an index of nobody."""
        return cls((), np.empty(0, np.int64), np.empty((0, DIMENSIONS), np.float32), last_id=0)

    def extended(
        self, ids: Sequence[int], names: Sequence[str], vectors: Sequence[bytes]
    ) -> "GalleryIndex":
        """Returns an index with further examples.

        Args:
            ids: Their ids, ascending and above `last_id`.
            names: Whose they are.
            vectors: Their embeddings, float32 [D] each, as bytes.
        """
        if not ids:
            return self
        numbers = {name: number for number, name in enumerate(self.names)}
        added = [numbers.setdefault(name, len(numbers)) for name in names]
        rows = np.frombuffer(b"".join(vectors), np.float32).reshape(len(ids), DIMENSIONS)
        return GalleryIndex(
            names=tuple(numbers),
            people=np.concatenate([self.people, np.array(added, np.int64)]),
            matrix=np.concatenate([self.matrix, rows]),
            last_id=ids[-1],
        )

    def nearest(self, vector: npt.NDArray[np.float32], top: int) -> tuple[Candidate, ...]:
        """Returns the nearest people; a person is as near as the nearest of their examples.

        Args:
            vector: float32 [D] of length 1.
            top: At most so many people.
        """
        if not self.names:
            return ()
        distances = squared_distances(self.matrix, vector)
        nearest = np.minimum.reduceat(distances[self._by_person], self._starts)
        first = np.argpartition(nearest, top - 1)[:top] if top < len(nearest) else slice(None)
        people = np.arange(len(nearest))[first]
        people = people[np.argsort(nearest[people], kind="stable")]
        return tuple(Candidate(self.names[person], float(nearest[person])) for person in people)

    def distance(self, name: str, vector: npt.NDArray[np.float32]) -> float | None:
        """Returns the distance to the nearest example of a person; None if there is none."""
        if name not in self.names:
            return None
        rows = self.people == self.names.index(name)
        return float(squared_distances(self.matrix[rows], vector).min())
