"""A gallery of known faces in one SQLite file: enrol, verify, identify, list, remove.

    with Gallery("people.gallery") as gallery, FaceClient("localhost:8500") as client:
        client.enrol(gallery, "Ada", ["ada_1.jpg", "ada_2.jpg"])
        print(client.identify("visitor.jpg", gallery).name or "unknown")

Embeddings are biometric data: enrol people who have agreed to it, and remove them when they ask.
Removing deletes: freed pages are overwritten, the file is rewritten without them, and the
write-ahead log is emptied. Photos are never stored. The file is made readable by its owner only.

A gallery belongs to the model version of its first embedding and refuses all others, because
vectors of different versions do not compare.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from clients.embeddings import (
    DIMENSIONS,
    FALSE_ACCEPT_RATES,
    FaceEmbedding,
    Identification,
    Verification,
    chosen_threshold,
)
from clients.gallery_file import GalleryFile
from clients.gallery_index import GalleryIndex
from protocol.errors import FailedPreconditionError, InvalidRequestError, NotFoundError

IDENTIFY_FAR = FALSE_ACCEPT_RATES[1]
"""Strict, because one face is compared with everybody: each person is a chance to be wrong."""

TOP = 5
"""How many of the nearest people an identification names."""

_LENGTH_TOLERANCE = 1e-3
_NAMES_SHOWN = 10


@dataclass(frozen=True)
class Example:
    """One enrolled face.

    Args:
        id: Its number, for removing it.
        source: Where it came from, such as the path of the photo.
        enrolled: When, in UTC, ISO 8601.
    """

    id: int
    source: str
    enrolled: str


@dataclass(frozen=True)
class Person:
    """Somebody a gallery knows.

    Args:
        name: The name.
        consent: Where their consent is recorded; "" if nothing was said.
        examples: Their faces, oldest first; one or more.
    """

    name: str
    consent: str
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Binding:
    """The model version whose embeddings a gallery holds."""

    model: str
    version: int
    thresholds: tuple[float, ...]


class Gallery:
    """Known faces in a file; a context manager, safe to share between threads and processes.

    Every change is one transaction: after a crash it is there wholly or not at all. Other
    processes' changes are seen by the next search.

    Args:
        path: The file; it is made if there is none.

    Raises:
        DataLossError: The file is damaged, or no SQLite file.
        FailedPreconditionError: It is the file of another program, or of another version of this
            one, or it cannot be opened.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._file = GalleryFile(self.path)
        self._index = GalleryIndex.empty()
        self._removals = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    @property
    def binding(self) -> Binding | None:
        """The model version whose embeddings these are; None while the gallery is empty."""
        with self._file.transaction("BEGIN"):
            return self._read_binding()

    def enrol(
        self, name: str, embeddings: Sequence[FaceEmbedding], *, consent: str = ""
    ) -> tuple[int, ...]:
        """Adds examples of a person: all of them, or none if something goes wrong.

        Args:
            name: The person, new or known.
            embeddings: One or more faces of them, of the gallery's model version.
            consent: Where their consent is recorded; "" keeps what is there.

        Returns:
            The ids of the examples.

        Raises:
            FailedPreconditionError: The gallery belongs to another model or version.
            InvalidRequestError: The name is empty, there are no embeddings, or one is no unit
                vector, float32, of 128 numbers.
            UnavailableError: Another process is writing all the time.
        """
        _check_name(name)
        if not embeddings:
            raise InvalidRequestError(f"{name}: expected one embedding or more, got none")
        enrolled = datetime.now(UTC).isoformat(timespec="seconds")
        with self._file.transaction():
            for embedding in embeddings:
                _check_vector(embedding)
                self._bind(embedding)
            person = self._person_id(name, consent)
            return tuple(self._add_example(person, entry, enrolled) for entry in embeddings)

    def verify(
        self,
        name: str,
        embedding: FaceEmbedding,
        *,
        far: float = FALSE_ACCEPT_RATES[0],
        threshold: float | None = None,
    ) -> Verification:
        """Says whether a face is that of a known person; their nearest example counts.

        Args:
            name: The person.
            embedding: The face.
            far: False-accept rate whose threshold the model version knows, 0.01 or 0.001.
            threshold: A squared distance of your own, 0 to 4, instead of a rate.

        Raises:
            NotFoundError: The gallery does not know that person.
            FailedPreconditionError: The gallery belongs to another model or version.
            InvalidRequestError: The rate is unknown, or the threshold out of range.
        """
        limit, rate = chosen_threshold(embedding.thresholds, far, threshold)
        index = self._current_index(embedding)
        distance = index.distance(name, embedding.vector)
        if distance is None:
            raise self._unknown_person(name, index.names)
        return Verification(distance <= limit, distance, limit, rate)

    def identify(
        self,
        embedding: FaceEmbedding,
        *,
        far: float = IDENTIFY_FAR,
        threshold: float | None = None,
        top: int = TOP,
    ) -> Identification:
        """Says whose face it is, or that it is nobody's here.

        The false-accept rate is that of one comparison; a stranger is compared with everybody,
        so the more people, the stricter the rate or threshold should be.

        Args:
            embedding: The face.
            far: False-accept rate whose threshold the model version knows, 0.01 or 0.001.
            threshold: A squared distance of your own, 0 to 4, instead of a rate.
            top: Number of nearest people to name as candidates; 1 or more.

        Raises:
            FailedPreconditionError: The gallery belongs to another model or version.
            InvalidRequestError: The rate is unknown, or the threshold or `top` out of range.
        """
        if top < 1:
            raise InvalidRequestError(f"top: expected 1 or more, got {top}")
        limit, rate = chosen_threshold(embedding.thresholds, far, threshold)
        candidates = self._current_index(embedding).nearest(embedding.vector, top)
        distance = candidates[0].distance if candidates else None
        known = distance is not None and distance <= limit
        name = candidates[0].name if known else None
        return Identification(embedding.source, name, distance, limit, rate, candidates)

    def people(self) -> list[Person]:
        """Returns everybody the gallery knows, by name."""
        with self._file.transaction("BEGIN"):
            rows = self._file.execute(
                "SELECT name, consent, example.id, source, enrolled FROM example"
                " JOIN person ON person.id = example.person ORDER BY name, example.id"
            ).fetchall()
        return [
            Person(name, consent, tuple(Example(*row[2:]) for row in group))
            for (name, consent), group in itertools.groupby(rows, lambda row: row[:2])
        ]

    def remove(self, name: str) -> int:
        """Deletes a person and all their examples from the file.

        Returns:
            How many examples there were.

        Raises:
            NotFoundError: The gallery does not know that person.
            UnavailableError: The person is removed, but traces remain; see `erase_traces`.
        """
        with self._file.transaction():
            (count,) = self._file.execute(
                "SELECT count(*) FROM example JOIN person ON person.id = person WHERE name = ?",
                (name,),
            ).fetchone()
            if not count:
                names = self._file.execute("SELECT name FROM person").fetchall()
                raise self._unknown_person(name, [row[0] for row in names])
            self._file.execute("DELETE FROM person WHERE name = ?", (name,))
            self._after_removal()
        self.erase_traces()
        return int(count)

    def remove_example(self, example_id: int) -> None:
        """Deletes one example from the file; a person's last example takes the person along.

        Args:
            example_id: Its id, as `people` lists it.

        Raises:
            NotFoundError: There is no such example.
            UnavailableError: The example is removed, but traces remain; see `erase_traces`.
        """
        with self._file.transaction():
            deleted = self._file.execute("DELETE FROM example WHERE id = ?", (example_id,))
            if not deleted.rowcount:
                raise NotFoundError(f"no example {example_id} in gallery {self.path}")
            self._after_removal()
        self.erase_traces()

    def erase_traces(self) -> None:
        """Rewrites the file without what was removed, and empties the write-ahead log.

        Removing does so by itself. It is to be repeated where another process was reading.

        Raises:
            UnavailableError: Another process is using the file all the time.
        """
        self._file.erase_traces()

    def _read_binding(self) -> Binding | None:
        row = self._file.execute("SELECT model, version, thresholds FROM binding").fetchone()
        if row is None:
            return None
        model, version, thresholds = row
        return Binding(model, version, tuple(np.frombuffer(thresholds, np.float32).tolist()))

    def _bind(self, embedding: FaceEmbedding) -> None:
        """Binds an empty gallery to the version of an embedding; checks one that is bound."""
        binding = self._read_binding()
        if binding is not None:
            self._check_bound(binding, embedding)
        elif embedding.version is None:
            raise InvalidRequestError(
                f"{embedding.source}: the server did not say which version of "
                f"model {embedding.model!r} made the embedding; a gallery must know"
            )
        else:
            thresholds = np.array(list(embedding.thresholds.values()), np.float32).tobytes()
            self._file.execute(
                "INSERT INTO binding VALUES (1, ?, ?, ?)",
                (embedding.model, embedding.version, thresholds),
            )

    def _check_bound(self, binding: Binding, embedding: FaceEmbedding) -> None:
        known = f"model {binding.model!r} version {binding.version}"
        hint = "enrol everybody's photos again into a new gallery, or ask that version"
        if (embedding.model, embedding.version) != (binding.model, binding.version):
            raise FailedPreconditionError(
                f"gallery {self.path} holds embeddings of {known}; {embedding.source} was "
                f"embedded by {embedding.origin}, and the two do not compare: {hint}"
            )
        if not np.allclose(binding.thresholds, list(embedding.thresholds.values()), atol=1e-6):
            raise FailedPreconditionError(
                f"gallery {self.path} holds embeddings of another {known}: its thresholds were "
                f"{binding.thresholds}, now they are {tuple(embedding.thresholds.values())}; {hint}"
            )

    def _person_id(self, name: str, consent: str) -> int:
        """Returns the id of a person, who is added if new."""
        (person,) = self._file.execute(
            "INSERT INTO person (name, consent) VALUES (?, ?) ON CONFLICT (name) DO UPDATE"
            " SET consent = CASE excluded.consent WHEN '' THEN consent ELSE excluded.consent END"
            " RETURNING id",
            (name, consent),
        ).fetchone()
        return int(person)

    def _add_example(self, person: int, embedding: FaceEmbedding, enrolled: str) -> int:
        (example,) = self._file.execute(
            "INSERT INTO example (person, source, enrolled, vector) VALUES (?, ?, ?, ?)"
            " RETURNING id",
            (person, embedding.source, enrolled, embedding.vector.tobytes()),
        ).fetchone()
        return int(example)

    def _after_removal(self) -> None:
        """Tells other processes; people without examples go, and so does an empty binding."""
        self._file.execute("UPDATE removals SET count = count + 1")
        self._file.execute("DELETE FROM person WHERE id NOT IN (SELECT person FROM example)")
        self._file.execute("DELETE FROM binding WHERE NOT EXISTS (SELECT 1 FROM example)")

    def _current_index(self, probe: FaceEmbedding) -> GalleryIndex:
        """Returns what the file holds now, after making sure that it compares with the probe."""
        _check_vector(probe)
        with self._file.transaction("BEGIN"):
            binding = self._read_binding()
            if binding is None:
                return GalleryIndex.empty()
            self._check_bound(binding, probe)
            (removals,) = self._file.execute("SELECT count FROM removals").fetchone()
            if removals != self._removals:
                self._index, self._removals = GalleryIndex.empty(), removals
            rows = self._file.execute(
                "SELECT example.id, name, vector FROM example"
                " JOIN person ON person.id = example.person WHERE example.id > ?"
                " ORDER BY example.id",
                (self._index.last_id,),
            ).fetchall()
            if rows:
                self._index = self._index.extended(*zip(*rows, strict=True))
            return self._index

    def _unknown_person(self, name: str, names: Sequence[str]) -> NotFoundError:
        shown = ", ".join(sorted(names)[:_NAMES_SHOWN]) or "nobody"
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        return NotFoundError(f"no person {name!r} in gallery {self.path}; it knows {shown}{more}")


def _check_name(name: str) -> None:
    if not (name.strip() and name.isprintable()):
        raise InvalidRequestError(f"name: expected printable characters, got {name!r}")


def _check_vector(embedding: FaceEmbedding) -> None:
    vector = embedding.vector
    if vector.dtype != np.float32 or vector.shape != (DIMENSIONS,):
        raise InvalidRequestError(
            f"{embedding.source}: expected an embedding float32 [{DIMENSIONS}], "
            f"got {vector.dtype} of shape {list(vector.shape)}"
        )
    length = float(np.linalg.norm(vector))
    if not abs(length - 1) <= _LENGTH_TOLERANCE:  # not a number fails, too
        raise InvalidRequestError(
            f"{embedding.source}: expected an embedding of length 1, got length {length}"
        )
