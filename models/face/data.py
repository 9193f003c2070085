"""Faces: from folders of identities, or lists in the layout of LFW, to faces by split.

A data folder holds one folder for each identity, directly or below `images/`, with that person's
pictures inside. Lists are optional: `people*.txt` says which identities count, `pairs*.txt` which
pairs to compare; a name ending in `Train` or `Test` says for what (`peopleDevTrain.txt`).
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from models.common.images import read_image
from models.common.splits import (
    ALL,
    DEV,
    TEST,
    TRAIN,
    DataError,
    choose_split,
    in_held_out_part,
)
from models.face.config import TrainingConfig
from protocol.images import encode_png

IMAGES_FOLDER = "images"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".pgm")
# What a server takes as it stands; other files are sent as PNG.
SERVED_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Face:
    """One picture of one person.

    Attributes:
        identity: who it is.
        source: an image file, or the picture itself, uint8 [H, W, 3].
        name: what messages and lists call it, e.g. `Ann_Lee/Ann_Lee_0001`.
    """

    identity: str
    source: Path | np.ndarray = field(compare=False)
    name: str

    def pixels(self) -> np.ndarray:
        """Returns the picture, uint8 [H, W, 3].

        Raises:
            DataError: if the file cannot be read; the message names it.
        """
        return read_image(self.source) if isinstance(self.source, Path) else self.source

    def encoded(self) -> bytes:
        """Returns the picture as a JPEG or PNG file, as a client would send it."""
        if isinstance(self.source, Path) and self.source.suffix.lower() in SERVED_SUFFIXES:
            return self.source.read_bytes()
        return encode_png(self.pixels())


@dataclass(frozen=True)
class Pair:
    """Two faces to compare, by their index in a list of faces."""

    first: int
    second: int
    same: bool


@dataclass(frozen=True)
class FaceSet:
    """Faces of one split, and the pairs that a list names among them (none: no list)."""

    faces: tuple[Face, ...]
    pairs: tuple[Pair, ...] = ()

    @property
    def identities(self) -> np.ndarray:
        """Who each face is: int [N], numbered in the order of the names."""
        names = [face.identity for face in self.faces]
        return np.unique(names, return_inverse=True)[1] if names else np.zeros(0, np.int64)

    def of(self, belongs: Callable[[str], bool]) -> "FaceSet":
        """Returns the faces whose identity belongs, and the pairs between two of them."""
        kept = [i for i, face in enumerate(self.faces) if belongs(face.identity)]
        position = {old: new for new, old in enumerate(kept)}
        pairs = tuple(
            Pair(position[pair.first], position[pair.second], pair.same)
            for pair in self.pairs
            if pair.first in position and pair.second in position
        )
        return FaceSet(tuple(self.faces[i] for i in kept), pairs)


@dataclass(frozen=True)
class Source:
    """One data folder.

    Attributes:
        name: the folder's name.
        splits: `all` and `train`, `dev`, `test` where they exist -> faces.
        default_split: what to evaluate unless told otherwise.
        digest: SHA-256 over all file names and the lists.
    """

    name: str
    splits: dict[str, FaceSet]
    default_split: str
    digest: str

    def choose(self, requested: str | None) -> tuple[str, FaceSet]:
        """Picks a split by name, or the default.

        Raises:
            DataError: if the folder has no such split.
        """
        name = choose_split(requested or self.default_split, set(self.splits) - {ALL}, self.name)
        return name, self.splits[name]


@dataclass(frozen=True)
class Lists:
    """The list files for one split."""

    people: Path | None = None
    pairs: Path | None = None


def load_source(folder: Path, config: TrainingConfig) -> Source:
    """Reads a data folder's structure; the pictures themselves are read when needed.

    Without a list for testing, part of the identities is held out as dev: those that
    `config.dev_identities` names, or a fixed part by a hash of the identity's name. A test list
    keeps its identities out of train and dev.

    Raises:
        DataError: if the folder is missing or holds no faces, or a list is malformed or names an
            image that is not there; the message names file and line.
    """
    everyone = FaceSet(find_faces(folder))
    lists = {split: _read_lists(found, everyone) for split, found in find_lists(folder).items()}
    splits = {ALL: lists.get(ALL) or _union(everyone, lists)}
    if TEST in lists:
        splits[TEST] = lists[TEST]
    kept_apart = {face.identity for face in splits.get(TEST, FaceSet(())).faces}
    learnable = lists.get(TRAIN, splits[ALL]).of(lambda identity: identity not in kept_apart)
    dev = learnable.of(lambda identity: is_held_out(identity, config))
    train = learnable.of(lambda identity: not is_held_out(identity, config))
    splits |= {name: part for name, part in ((TRAIN, train), (DEV, dev)) if part.faces}
    default = TEST if TEST in lists else DEV if TRAIN in lists and dev.faces else ALL
    return Source(folder.name, splits, default, _digest(folder, everyone))


def is_held_out(identity: str, config: TrainingConfig) -> bool:
    """Tells whether training keeps an identity apart as dev."""
    if config.dev_identities:
        return identity in config.dev_identities
    return in_held_out_part(identity, config.dev_fraction)


def find_faces(folder: Path) -> tuple[Face, ...]:
    """Lists the pictures of all identity folders, by name.

    Raises:
        DataError: if there is no such folder, or no picture in a folder below it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such data folder")
    root = folder / IMAGES_FOLDER if (folder / IMAGES_FOLDER).is_dir() else folder
    faces = [
        Face(person.name, file, f"{person.name}/{file.stem}")
        for person in sorted(path for path in root.iterdir() if path.is_dir())
        for file in sorted(person.iterdir())
        if file.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not faces:
        there = ", ".join(sorted(p.name for p in root.iterdir())[:10]) or "nothing"
        raise DataError(
            f"{root}: expected a folder for each identity with {', '.join(IMAGE_SUFFIXES)} "
            f"inside; found: {there}"
        )
    return tuple(faces)


def find_lists(folder: Path) -> dict[str, Lists]:
    """Returns split name (train, test, all) -> its list files.

    Raises:
        DataError: if two lists of a kind are there for one split.
    """
    found: dict[str, dict[str, Path]] = {}
    for kind in ("people", "pairs"):
        for path in sorted(folder.glob(f"{kind}*.txt")):
            split = _split_of(path)
            other = found.setdefault(split, {}).setdefault(kind, path)
            if other != path:
                raise DataError(
                    f"{folder}: two {kind} lists for {split}: {other.name}, {path.name}"
                )
    return {split: Lists(**kinds) for split, kinds in found.items()}


def _split_of(path: Path) -> str:
    stem = path.stem.lower()
    return next((split for split in (TRAIN, TEST) if stem.endswith(split)), ALL)


def _read_lists(lists: Lists, everyone: FaceSet) -> FaceSet:
    chosen = everyone
    if lists.people is not None:
        people = read_people(lists.people)
        chosen = everyone.of(lambda identity: identity in people)
        if not chosen.faces:
            raise DataError(f"{lists.people}: none of its {len(people)} people has a folder here")
    pairs = read_pairs(lists.pairs, chosen.faces) if lists.pairs is not None else []
    return FaceSet(chosen.faces, tuple(pairs))


def _union(everyone: FaceSet, lists: dict[str, FaceSet]) -> FaceSet:
    """Everyone whom any list counts, with the pairs of all lists."""
    if not lists:
        return everyone
    listed = {face.identity for part in lists.values() for face in part.faces}
    rows = {face: row for row, face in enumerate(everyone.faces)}
    pairs = tuple(
        Pair(rows[part.faces[pair.first]], rows[part.faces[pair.second]], pair.same)
        for part in lists.values()
        for pair in part.pairs
    )
    return FaceSet(everyone.faces, pairs).of(lambda identity: identity in listed)


def read_people(path: Path) -> set[str]:
    """Reads a `people*.txt` of LFW: a line with the count, then `name<TAB>images` a line.

    Raises:
        DataError: for a line of another form, or a wrong count.
    """
    rows = _read_rows(path)
    names = set()
    for line, columns in rows:
        if len(columns) != 2 or not columns[1].isdigit():
            raise DataError(f"{path}:{line}: expected name<TAB>number of images, got {columns}")
        names.add(columns[0])
    if not names:
        raise DataError(f"{path}: names nobody")
    return names


def read_pairs(path: Path, faces: Sequence[Face]) -> list[Pair]:
    """Reads a `pairs*.txt` of LFW.

    A line of three columns, `name n m`, is a pair of the same person; one of four, `name n other
    m`, a pair of two persons. Numbers are those in the file names, `Name_0001.jpg` or `1.pgm`.

    Raises:
        DataError: for a line of another form, or an image that is not there.
    """
    rows = {face.name: row for row, face in enumerate(faces)}
    pairs = []
    for line, columns in _read_rows(path):
        if len(columns) == 3:
            name, first, second = columns
            other = name
        elif len(columns) == 4:
            name, first, other, second = columns
        else:
            raise DataError(f"{path}:{line}: expected 3 or 4 columns, got {len(columns)}")
        where = f"{path}:{line}"
        pairs.append(
            Pair(_find(rows, name, first, where), _find(rows, other, second, where), name == other)
        )
    return pairs


def _find(rows: dict[str, int], identity: str, number: str, where: str) -> int:
    """Returns the index of a numbered image of a person."""
    if not number.isdigit():
        raise DataError(f"{where}: expected the number of an image, got {number!r}")
    names = (f"{identity}/{identity}_{int(number):04d}", f"{identity}/{int(number)}")
    for name in names:
        if name in rows:
            return rows[name]
    raise DataError(f"{where}: no image {' or '.join(names)} among {len(rows)} images")


def _read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Reads the lines below a list's first, which holds counts, as (line number, columns)."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not lines or not all(part.isdigit() for part in lines[0].split()):
        raise DataError(f"{path}:1: expected the number of entries, got {lines[:1]}")
    return [(n, line.split("\t")) for n, line in enumerate(lines[1:], start=2) if line.strip()]


def _digest(folder: Path, everyone: FaceSet) -> str:
    digest = hashlib.sha256()
    for face in everyone.faces:
        size = face.source.stat().st_size if isinstance(face.source, Path) else 0
        digest.update(f"{face.name} {size}\n".encode())
    for path in sorted([*folder.glob("people*.txt"), *folder.glob("pairs*.txt")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()
