"""Sentence pairs: from TSV or aligned files to padded batches of token ids.

A data folder holds `train`, `dev` (or `val`) and `test` files in UTF-8, plain or `.gz`, of one of
two layouts; any of the splits may be missing:

- `train.tsv`: source, tab, target, without a header; further columns are not read.
- `train.de` and `train.en`: aligned lines, one file for each of the two languages asked for.

Every file whose name begins with `test` (`test_2016_flickr.de`) belongs to the split `test`.
"""

import gzip
import hashlib
import math
import re
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from models.common.splits import DEV, SPLIT_ALIASES, TEST, TRAIN, DataError, in_held_out_part
from protocol.subwords import END_ID, PADDING_ID, START_ID, SubwordTokenizer

# Lengths are padded to a multiple of this, batches to one of the other: few shapes to compile.
LENGTH_STEP = 4
ROW_STEP = 8
# What only sets a sentence in type: all but letters and digits; not what parts two numbers.
STYLE = re.compile(r"(?<![\d\W_])[\W_]+|[\W_]++(?!\d)")


@dataclass(frozen=True)
class Pair:
    """One sentence and its translation."""

    source: str
    target: str


@dataclass(frozen=True)
class Source:
    """One data folder: its name and its pairs by split (train, dev, test).

    Attributes:
        name: the folder's name.
        splits: split -> its pairs, in the order of the files.
        digest: SHA-256 of the files.
        notes: what was read, for the report: e.g. file name -> number of pairs.
    """

    name: str
    splits: dict[str, list[Pair]]
    digest: str
    notes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Corpus:
    """What training reads: pairs to learn from, and dev pairs kept apart by source.

    Attributes:
        train: the training pairs of all sources, without any sentence of a dev or test split.
        dev: source name -> its dev pairs.
        dropped: source name -> training pairs left out because their source sentence also stands
            in a dev or test split, or because they repeat another training pair.
        digests: source name -> SHA-256 of its files.
    """

    train: list[Pair]
    dev: dict[str, list[Pair]]
    dropped: dict[str, int]
    digests: dict[str, str]


@dataclass(frozen=True)
class Item:
    """One sentence and all its reference translations."""

    source: str
    references: tuple[str, ...]


def load_pairs(path: Path, aligned_path: Path | None = None) -> list[Pair]:
    """Reads one TSV file, or two aligned files.

    Args:
        path: the TSV, or the file of source sentences.
        aligned_path: the file with the translation of each line of `path`.

    Raises:
        DataError: for an unreadable file, an empty sentence, a TSV line without a tab, or aligned
            files of unequal length; the message names the file and the line.
    """
    pairs = _tsv_pairs(path) if aligned_path is None else _aligned_pairs(path, aligned_path)
    if not pairs:
        raise DataError(f"{path}: no pairs")
    return pairs


def _tsv_pairs(path: Path) -> list[Pair]:
    pairs = []
    for number, line in enumerate(_lines(path), start=1):
        source, *others = line.split("\t")
        if source.strip() and not others:
            raise DataError(f"{path}:{number}: expected source, tab, target; got {line[:80]!r}")
        first = _sentence(source, path, number)
        pairs.append(Pair(first, _sentence(others[0], path, number)))
    return pairs


def _aligned_pairs(source_path: Path, target_path: Path) -> list[Pair]:
    sources, targets = list(_lines(source_path)), list(_lines(target_path))
    if len(sources) != len(targets):
        raise DataError(
            f"aligned files differ in length: {source_path} has {len(sources)} lines, "
            f"{target_path} has {len(targets)}"
        )
    return [
        Pair(_sentence(source, source_path, number), _sentence(target, target_path, number))
        for number, (source, target) in enumerate(zip(sources, targets, strict=True), start=1)
    ]


def _sentence(text: str, path: Path, line: int) -> str:
    """Returns the text without space around it."""
    if not text.strip():
        raise DataError(f"{path}:{line}: empty sentence")
    return text.strip()


def _lines(path: Path) -> Iterator[str]:
    """Yields lines: only a line feed ends one, so that both sides of a pair count alike."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                yield _decode(line, path, number)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _decode(line: bytes, path: Path, number: int) -> str:
    try:
        return line.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{number}: not UTF-8: {error}") from error


def find_splits(folder: Path, languages: tuple[str, str]) -> dict[str, list[tuple[Path, ...]]]:
    """Returns split name (train, dev, test) -> its TSV files and pairs of aligned files.

    Args:
        folder: the data folder.
        languages: suffixes of the aligned files, source first, e.g. `("de", "en")`.

    Raises:
        DataError: if the folder is missing, holds no such file, holds two for train or dev, or
            holds an aligned file without its partner.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such data folder")
    found: dict[str, list[tuple[Path, ...]]] = {}
    for split, files in _file_sets(folder, languages):
        if split in found and split != TEST:
            both = f"{found[split][0][0].name}, {files[0].name}"
            raise DataError(f"{folder}: two files for {split}: {both}")
        found.setdefault(split, []).append(files)
    if not found:
        raise DataError(
            f"{folder}: expected train, dev (or val) or test as .tsv or as "
            f".{languages[0]} and .{languages[1]}, plain or .gz; found: {_listing(folder)}"
        )
    return found


def _file_sets(folder: Path, languages: tuple[str, str]) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """Yields (split, one TSV or two aligned files), sorted by name."""
    named: dict[tuple[str, str], dict[str, list[Path]]] = {}
    for path in sorted(folder.iterdir()):
        stem, _, suffix = path.name.removesuffix(".gz").rpartition(".")
        split = TEST if stem.startswith(TEST) else SPLIT_ALIASES.get(stem)
        if split and path.is_file():
            named.setdefault((split, stem), {}).setdefault(suffix, []).append(path)
    for (split, stem), by_suffix in named.items():
        for suffixes in (("tsv",), languages):
            if any(suffix in by_suffix for suffix in suffixes):
                paths = [(f"{stem}.{suffix}", by_suffix.get(suffix, [])) for suffix in suffixes]
                yield split, tuple(_only(found, name, folder) for name, found in paths)


def _only(paths: Sequence[Path], name: str, folder: Path) -> Path:
    if len(paths) != 1:
        came = ", ".join(path.name for path in paths) or "none"
        raise DataError(
            f"{folder}: expected one file {name}, plain or .gz; got {came}; "
            f"found: {_listing(folder)}"
        )
    return paths[0]


def _listing(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"


def load_source(folder: Path, languages: tuple[str, str], dev_fraction: float) -> Source:
    """Reads a data folder; where it has no dev file, a fixed part of train is held out as dev.

    Which pairs are held out depends on a hash of the normalised source sentence alone, so all
    translations of a sentence stay on one side, and the part stays the same when the file is
    reordered.

    Args:
        folder: the data folder.
        languages: suffixes of aligned files, source first; the direction of a TSV is its own.
        dev_fraction: share of the training sentences to hold out, 0 to 1.

    Raises:
        DataError: as `find_splits` and `load_pairs` do.
    """
    splits: dict[str, list[Pair]] = {}
    notes: dict[str, int] = {}
    digest = hashlib.sha256()
    for split, file_sets in sorted(find_splits(folder, languages).items()):
        for files in file_sets:
            pairs = load_pairs(*files)
            splits.setdefault(split, []).extend(pairs)
            notes[files[0].name] = len(pairs)
            for path in files:
                digest.update(path.read_bytes())
    if DEV not in splits and TRAIN in splits:
        splits[TRAIN], splits[DEV] = _hold_out(splits[TRAIN], dev_fraction)
        notes["held out as dev"] = len(splits[DEV])
    return Source(folder.name, splits, digest.hexdigest(), notes)


def _hold_out(pairs: Sequence[Pair], fraction: float) -> tuple[list[Pair], list[Pair]]:
    """Returns (kept, held out)."""
    parts: tuple[list[Pair], list[Pair]] = ([], [])
    for pair in pairs:
        parts[in_held_out_part(normalised(pair.source), fraction)].append(pair)
    return parts


def normalised(text: str) -> str:
    """Reduces a sentence to what it says: equal for copies that differ in style.

    Letters and digits remain, and what stands between two digits: `3/5` is not `3.5`. A text
    without any stays as it is.
    """
    return STYLE.sub("", unicodedata.normalize("NFC", text).casefold()) or text.strip()


def build_corpus(sources: Sequence[Source]) -> Corpus:
    """Joins the sources, leaving out training pairs that would leak into an evaluation.

    Raises:
        DataError: if no source has a training split, or none has a dev split.
    """
    kept_apart = {
        normalised(pair.source)
        for source in sources
        for split, pairs in source.splits.items()
        if split != TRAIN
        for pair in pairs
    }
    train: dict[Pair, None] = {}
    dropped: dict[str, int] = {}
    for source in sources:
        own = source.splits.get(TRAIN, [])
        before = len(train)
        train.update((pair, None) for pair in own if normalised(pair.source) not in kept_apart)
        dropped[source.name] = len(own) - (len(train) - before)
    dev = {source.name: source.splits[DEV] for source in sources if source.splits.get(DEV)}
    if not train or not dev:
        names = ", ".join(source.name for source in sources)
        raise DataError(f"training needs a train and a dev split; sources: {names}")
    return Corpus(list(train), dev, dropped, {source.name: source.digest for source in sources})


def check_leakage(corpus: Corpus) -> None:
    """Raises DataError if a training source sentence also stands, normalised, in a dev split."""
    train = {normalised(pair.source) for pair in corpus.train}
    for name, pairs in corpus.dev.items():
        shared = [pair.source for pair in pairs if normalised(pair.source) in train]
        if shared:
            raise DataError(
                f"{len(shared)} training sentences also stand in the dev split of {name}, "
                f"e.g. {shared[0][:80]!r}"
            )


def references(pairs: Iterable[Pair]) -> list[Item]:
    """Groups pairs by source sentence, in the order in which each first appears."""
    by_source: dict[str, list[str]] = {}
    for pair in pairs:
        by_source.setdefault(pair.source, []).append(pair.target)
    return [Item(source, tuple(targets)) for source, targets in by_source.items()]


@dataclass(frozen=True)
class EncodedPair:
    """Token ids of one pair, both without padding and ending with END.

    Attributes:
        source_ids: int32 [S], S >= 1.
        target_ids: int32 [T], T >= 1, without START.
    """

    source_ids: np.ndarray
    target_ids: np.ndarray


class EncodedPairs(NamedTuple):
    """What `encode_pairs` returns: the pairs to use, and reason -> number of pairs left out."""

    encoded: list[EncodedPair]
    skipped: dict[str, int]


def encode_pairs(
    pairs: Iterable[Pair], tokenizer: SubwordTokenizer, max_ratio: float = math.inf
) -> EncodedPairs:
    """Tokenises pairs, leaving out those that cannot be learned from.

    Args:
        pairs: what to tokenise.
        tokenizer: of both languages; its `max_tokens` bounds either side.
        max_ratio: the longer side may have this many times the tokens of the shorter one;
            what goes beyond is most often not a translation.

    Returns:
        The encoded pairs, and how many were skipped for each reason: `over_long` (a side would
        be cut off), `empty` (a side of which the tokeniser leaves nothing), `uneven`.
    """
    encoded: list[EncodedPair] = []
    skipped = {"over_long": 0, "empty": 0, "uneven": 0}
    for pair in pairs:
        source, target = tokenizer.encode(pair.source), tokenizer.encode(pair.target)
        shorter, longer = sorted((source.tokens, target.tokens))
        if source.truncated or target.truncated:
            skipped["over_long"] += 1
        elif shorter <= 1:
            skipped["empty"] += 1
        elif longer > max_ratio * shorter:
            skipped["uneven"] += 1
        else:
            ids = (np.asarray(side.ids, np.int32) for side in (source, target))
            encoded.append(EncodedPair(*ids))
    return EncodedPairs(encoded, skipped)


class BatchSequence(keras.utils.PyDataset):
    """Batches of about as many tokens each, of similar lengths, in a new order every epoch.

    Element: ({"source_ids": int32 [B, S], "target_in": int32 [B, T]}, {"logits": int32 [B, T]}).
    `target_in` is START and the target's pieces, `logits` (named for the output it is compared
    with) the pieces and END, padding where nothing is to be predicted. B, S and T follow from
    the shape that a pair belongs to, so a compiler sees no more than `max_shapes`; B (S + T) is
    at most `batch_tokens`, unless one pair alone exceeds it. The batches of a shape are filled up
    with empty sentences of which nothing is to be predicted.

    The order depends on the seed and the epoch alone.

    Args:
        pairs: what to read; at least one.
        batch_tokens: size of a batch: tokens of source and target, padding included.
        seed: order of the pairs; None keeps the given order within each shape.
        max_shapes: upper bound of the number of shapes.
        epoch: the first epoch's number, to go on where an interrupted training stopped.

    Attributes:
        shapes: (B, S, T) of every kind of batch.
        padding_share: share of padding among the tokens of an epoch, 0 to 1.
    """

    def __init__(
        self,
        pairs: Sequence[EncodedPair],
        batch_tokens: int,
        seed: int | None = None,
        max_shapes: int = 24,
        epoch: int = 0,
    ) -> None:
        super().__init__(workers=1)
        if not pairs:
            raise DataError("expected at least one encoded pair to make batches of; got none")
        self._seed = seed
        self._epoch = epoch
        self._buckets = list(_make_buckets(pairs, batch_tokens, max_shapes))
        self._batches = self._draw_batches()
        self.shapes = [
            (bucket.rows, bucket.source_ids.shape[1], bucket.targets.shape[1])
            for bucket in self._buckets
        ]
        used = sum(len(pair.source_ids) + len(pair.target_ids) for pair in pairs)
        computed = sum(bucket.rows * sum(bucket.shape) for bucket, _ in self._batches)
        self.padding_share = 1.0 - used / computed

    def __len__(self) -> int:
        """Batches in an epoch, the same number in each."""
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Returns one padded batch; see the class for shapes."""
        bucket, rows = self._batches[index]
        inputs = {"source_ids": bucket.source_ids[rows], "target_in": bucket.target_in[rows]}
        return inputs, {"logits": bucket.targets[rows]}

    def on_epoch_end(self) -> None:
        """Goes on to the next epoch's order."""
        self._epoch += 1
        self._batches = self._draw_batches()

    def _draw_batches(self) -> list[tuple["_Bucket", np.ndarray]]:
        """Returns the bucket of each batch of this epoch, and its rows there [B]."""
        random = None if self._seed is None else np.random.default_rng([self._seed, self._epoch])
        batches = [(bucket, rows) for bucket in self._buckets for rows in bucket.draw_rows(random)]
        if random is not None:
            batches = [batches[i] for i in random.permutation(len(batches))]
        return _with_different_shapes_first(batches)


@dataclass(frozen=True, eq=False)
class _Bucket:
    """The n pairs of one shape, and after them an empty one to fill batches with.

    Attributes:
        source_ids: int32 [n + 1, S].
        target_in: int32 [n + 1, T].
        targets: int32 [n + 1, T].
        rows: rows of a batch.
    """

    source_ids: np.ndarray
    target_in: np.ndarray
    targets: np.ndarray
    rows: int

    @property
    def shape(self) -> tuple[int, int]:
        """S and T."""
        return self.source_ids.shape[1], self.targets.shape[1]

    def draw_rows(self, random: np.random.Generator | None) -> np.ndarray:
        """Returns the rows of each batch of an epoch, int [batches, B]."""
        filler = len(self.targets) - 1
        order = np.arange(filler) if random is None else random.permutation(filler)
        missing = -filler % self.rows
        return np.pad(order, (0, missing), constant_values=filler).reshape(-1, self.rows)


def _make_buckets(
    pairs: Sequence[EncodedPair], batch_tokens: int, max_shapes: int
) -> Iterator[_Bucket]:
    lengths = np.array([(len(pair.source_ids), len(pair.target_ids)) for pair in pairs])
    shapes, shape_of = np.unique(
        choose_shapes(lengths, batch_tokens, max_shapes), axis=0, return_inverse=True
    )
    for i, (source_length, target_length) in enumerate(shapes):
        own = [pairs[k] for k in np.flatnonzero(shape_of.ravel() == i).tolist()]
        # The last row is the empty sentence: its source is END, its target asks for nothing.
        sources = [*(pair.source_ids for pair in own), np.array([END_ID], np.int32)]
        targets = [*(pair.target_ids for pair in own), np.array([], np.int32)]
        padded = _pad(targets, target_length)
        most = batch_rows(batch_tokens, source_length + target_length)
        rows = _even_rows(len(own), int(most))
        yield _Bucket(_pad(sources, source_length), _shift(padded), padded, rows)


def _pad(rows: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Returns the rows as one array int32 [N, length]."""
    lengths = np.array([len(row) for row in rows])
    padded = np.full((len(rows), length), PADDING_ID, np.int32)
    padded[np.arange(length) < lengths[:, None]] = np.concatenate(rows)
    return padded


def _shift(targets: np.ndarray) -> np.ndarray:
    """Returns what the decoder has read before each target: START, then the targets but END."""
    shifted = np.where(targets == PADDING_ID, PADDING_ID, np.roll(targets, 1, axis=1))
    shifted[:, 0] = START_ID
    return shifted


def _even_rows(count: int, most: int) -> int:
    """Returns the rows of a batch, so that `count` pairs in as few batches leave little empty."""
    batches = -(-count // most)
    rows = -(-count // batches)
    return min(most, rows + -rows % ROW_STEP)


def _round_up(numbers: np.ndarray, step: int | np.ndarray) -> np.ndarray:
    return -(-numbers // step) * step


def batch_rows(batch_tokens: int, length: int | np.ndarray) -> np.ndarray:
    """Returns how many pairs of `length` tokens (S + T) a batch holds: from 8 on, a multiple."""
    rows = np.maximum(1, batch_tokens // np.asarray(length))
    return np.where(rows < ROW_STEP, rows, rows - rows % ROW_STEP)


def choose_shapes(lengths: np.ndarray, batch_tokens: int, max_shapes: int) -> np.ndarray:
    """Chooses the padded lengths of each pair: few shapes, little to compute for nothing.

    Begins with the lengths rounded up to a multiple of 4, and joins two shapes at a time, always
    those whose union (the longer of both on either side) adds the fewest tokens to an epoch,
    until no union saves tokens and at most `max_shapes` are left.

    Args:
        lengths: tokens of source and target, int [N, 2].
        batch_tokens: tokens of a batch.
        max_shapes: upper bound of the number of shapes.

    Returns:
        Padded lengths, int [N, 2], multiples of 4.
    """
    shapes, shape_of, counts = np.unique(
        _round_up(lengths, LENGTH_STEP), axis=0, return_inverse=True, return_counts=True
    )
    joined = np.arange(len(shapes))
    extra = np.stack([_extra_tokens(shapes, counts, i, batch_tokens) for i in range(len(shapes))])
    left = len(shapes)
    while left > 1:
        i, j = divmod(int(np.argmin(extra)), len(shapes))
        if extra[i, j] >= 0 and left <= max_shapes:
            break
        shapes[i] = np.maximum(shapes[i], shapes[j])
        counts[i] += counts[j]
        counts[j] = 0
        joined[joined == j] = i
        extra[j, :] = extra[:, j] = np.inf
        extra[i, :] = extra[:, i] = _extra_tokens(shapes, counts, i, batch_tokens)
        left -= 1
    return shapes[joined[shape_of.ravel()]]


def _extra_tokens(shapes: np.ndarray, counts: np.ndarray, i: int, batch_tokens: int) -> np.ndarray:
    """Returns what joining shape `i` with each other one adds to an epoch, float [shapes]."""
    apart = _epoch_tokens(shapes, counts, batch_tokens)
    unions = np.maximum(shapes, shapes[i])
    together = _epoch_tokens(unions, counts + counts[i], batch_tokens)
    extra = (together - apart - apart[i]).astype(np.float64)
    extra[counts == 0] = np.inf
    extra[i] = np.inf
    return extra


def _epoch_tokens(shapes: np.ndarray, counts: np.ndarray, batch_tokens: int) -> np.ndarray:
    """Returns the tokens of all batches of each shape, padding included."""
    lengths = shapes.sum(axis=1)
    return _round_up(counts, batch_rows(batch_tokens, lengths)) * lengths


def _with_different_shapes_first(
    batches: Sequence[tuple[_Bucket, np.ndarray]],
) -> list[tuple[_Bucket, np.ndarray]]:
    """Returns the batches with two first that differ in both lengths, where there are such.

    Keras takes an axis for variable only if the first two batches differ in it.
    """
    first_of: dict[tuple[int, int], int] = {}
    for i, (bucket, _) in enumerate(batches):
        first_of.setdefault(bucket.shape, i)
    pair = max(
        combinations(first_of, 2),
        key=lambda pair: sum(a != b for a, b in zip(*pair, strict=True)),
        default=None,
    )
    if pair is None:
        return list(batches)
    early = sorted(first_of[shape] for shape in pair)
    rest = [batch for i, batch in enumerate(batches) if i not in early]
    return [batches[i] for i in early] + rest
