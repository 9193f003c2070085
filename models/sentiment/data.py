"""Labelled texts: from TSV and CSV files to padded batches of token ids.

A data folder holds `train`, `dev` (or `val`) and `test` files, each `.tsv` or `.csv`, plain or
`.gz`, with a header naming the columns `text` and `label`. Any of them may be missing.
"""

import csv
import gzip
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from models.common.splits import DEV, SPLIT_ALIASES, TRAIN, DataError, in_held_out_part
from protocol.tokenizer import WordTokenizer

# Folders under DATA_DIR that the shipped model learned from.
SHARED_DATASETS = ("sent_imdb", "sent_sst2", "sent_mr")
SUFFIXES = (".tsv", ".csv", ".tsv.gz", ".csv.gz")
# Lengths to which a batch is padded: few shapes to compile, little padding to compute.
BUCKET_LENGTHS = (16, 32, 64, 128, 192, 256, 384, 512, 768, 1024)


@dataclass(frozen=True)
class Example:
    """One labelled text; `class_id` counts from 0 in the order of the configured labels."""

    text: str
    class_id: int


@dataclass(frozen=True)
class Source:
    """One data folder: its name and its examples by split (train, dev, test)."""

    name: str
    splits: dict[str, list[Example]]
    digest: str


@dataclass(frozen=True)
class Corpus:
    """What training reads: texts to learn from, and dev texts kept apart by source.

    Attributes:
        train: the training examples of all sources, without any text of a dev or test split.
        dev: source name -> its dev examples.
        dropped: source name -> training texts left out because they also stand in a dev or test
            split, or repeat another training text.
        digests: source name -> SHA-256 of its files.
    """

    train: list[Example]
    dev: dict[str, list[Example]]
    dropped: dict[str, int]
    digests: dict[str, str]


def load_examples(path: Path, labels: Sequence[str]) -> list[Example]:
    """Reads one file of labelled texts.

    Args:
        path: TSV (text, tab, label; quotes are ordinary characters) or CSV (RFC 4180), with a
            header line; a name ending in `.gz` is decompressed.
        labels: the allowed labels; a file may spell them out or number them from 0.

    Raises:
        DataError: for an unreadable file, a missing column, an empty text or an unknown label;
            the message names the file and the line.
    """
    class_ids = {name: i for i, name in enumerate(labels)}
    class_ids.update({str(i): i for i in range(len(labels))})
    examples = []
    for line, text, label in _rows(path):
        if not text.strip():
            raise DataError(f"{path}:{line}: empty text")
        if label.strip() not in class_ids:
            known = ", ".join(f"{i} or {name}" for i, name in enumerate(labels))
            raise DataError(f"{path}:{line}: unknown label {label!r}; expected {known}")
        examples.append(Example(text, class_ids[label.strip()]))
    if not examples:
        raise DataError(f"{path}: no examples")
    return examples


def _rows(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yields (line number, text, label)."""
    opener = gzip.open if path.suffix == ".gz" else open
    is_csv = ".csv" in path.suffixes
    # Reviews can be long; the csv module's default refuses fields above 128 KiB.
    csv.field_size_limit(16 * 2**20)
    try:
        with opener(path, "rt", encoding="utf-8", newline="" if is_csv else "\n") as file:
            reader = (
                csv.reader(file, strict=True)
                if is_csv
                else csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            )
            header = next(reader, [])
            if "text" not in header or "label" not in header:
                raise DataError(f"{path}:1: header must name the columns text and label: {header}")
            text, label = header.index("text"), header.index("label")
            for row in reader:
                if len(row) != len(header):
                    raise DataError(
                        f"{path}:{reader.line_num}: expected {len(header)} columns, got {len(row)}"
                    )
                yield reader.line_num, row[text], row[label]
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def find_splits(folder: Path) -> dict[str, Path]:
    """Returns split name (train, dev, test) -> file for a data folder.

    Raises:
        DataError: if the folder is missing, holds no such file, or holds two for one split.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such data folder")
    found: dict[str, Path] = {}
    for stem, split in SPLIT_ALIASES.items():
        for suffix in SUFFIXES:
            path = folder / f"{stem}{suffix}"
            if not path.is_file():
                continue
            if split in found:
                raise DataError(
                    f"{folder}: two files for {split}: {found[split].name}, {path.name}"
                )
            found[split] = path
    if not found:
        there = ", ".join(sorted(p.name for p in folder.iterdir())) or "nothing"
        raise DataError(
            f"{folder}: expected train, dev (or val) or test as .tsv or .csv, plain or .gz; "
            f"found: {there}"
        )
    return found


def load_source(folder: Path, labels: Sequence[str], dev_fraction: float) -> Source:
    """Reads a data folder; where it has no dev file, a fixed part of train is held out as dev.

    Which texts are held out depends on a hash of their normalised form alone, so a text and its
    copies stay on one side, and the part stays the same when the file is reordered.
    """
    files = find_splits(folder)
    splits = {name: load_examples(path, labels) for name, path in files.items()}
    if DEV not in splits and TRAIN in splits:
        examples = splits[TRAIN]
        held_out = [in_held_out_part(normalised(e.text), dev_fraction) for e in examples]
        splits[DEV] = [e for e, out in zip(examples, held_out, strict=True) if out]
        splits[TRAIN] = [e for e, out in zip(examples, held_out, strict=True) if not out]
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(files[name].read_bytes())
    return Source(folder.name, splits, digest.hexdigest())


def normalised(text: str) -> str:
    """Reduces a text to its letters and digits: equal for copies that differ in style."""
    return re.sub(r"[\W_]+", "", text.lower())


def build_corpus(sources: Sequence[Source]) -> Corpus:
    """Joins the sources, leaving out training texts that would leak into an evaluation.

    Raises:
        DataError: if no source has a training split, or none has a dev split.
    """
    kept_apart = {
        normalised(example.text)
        for source in sources
        for split, examples in source.splits.items()
        if split != TRAIN
        for example in examples
    }
    seen = set(kept_apart)
    train: list[Example] = []
    dropped: dict[str, int] = {}
    for source in sources:
        own = source.splits.get(TRAIN, [])
        fresh = []
        for example in own:
            key = normalised(example.text)
            if key not in seen:
                seen.add(key)
                fresh.append(example)
        train += fresh
        dropped[source.name] = len(own) - len(fresh)
    dev = {source.name: source.splits[DEV] for source in sources if DEV in source.splits}
    if not train or not dev:
        names = ", ".join(source.name for source in sources)
        raise DataError(f"training needs a train and a dev split; sources: {names}")
    return Corpus(train, dev, dropped, {source.name: source.digest for source in sources})


def check_leakage(corpus: Corpus) -> None:
    """Raises DataError if a training text also stands, normalised, in a dev split."""
    train = {normalised(example.text) for example in corpus.train}
    for name, examples in corpus.dev.items():
        shared = [e.text for e in examples if normalised(e.text) in train]
        if shared:
            raise DataError(
                f"{len(shared)} training texts also stand in the dev split of {name}, "
                f"e.g. {shared[0][:80]!r}"
            )


@dataclass(frozen=True)
class EncodedExample:
    """Token ids int32 [T] (T >= 1, without padding) and the class."""

    token_ids: np.ndarray
    class_id: int


def encode(examples: Sequence[Example], tokenizer: WordTokenizer) -> list[EncodedExample]:
    """Tokenises examples; a text without any token becomes one unknown token."""
    encoded = []
    for example in examples:
        ids = tokenizer.encode(example.text).ids or [1]
        encoded.append(EncodedExample(np.asarray(ids, np.int32), example.class_id))
    return encoded


class BatchSequence(keras.utils.PyDataset):
    """Batches of similar length, in a new order every epoch.

    Element: (token_ids int32 [B, L], targets, sample weights), where L is one of
    `BUCKET_LENGTHS`, B the batch size, targets are class ids int32 [B] and weights float32 [B],
    both repeated under the name of each output. The last batch of a length is filled up with
    empty rows of weight 0, so that a compiler sees one shape for each length.

    Args:
        examples: what to read.
        outputs: names of the network's outputs.
        batch_size: rows of a batch.
        seed: order of the texts; None keeps the given order within each length.
        crop_probability: chance for each text longer than 40 tokens to be joined, each epoch, by
            an excerpt of 10 to 60 tokens of itself.
    """

    def __init__(
        self,
        examples: Sequence[EncodedExample],
        outputs: Sequence[str],
        batch_size: int,
        seed: int | None = None,
        crop_probability: float = 0.0,
    ) -> None:
        super().__init__(workers=1)
        self.examples = list(examples)
        self.outputs = tuple(outputs)
        self.batch_size = batch_size
        self.crop_probability = crop_probability
        self._shuffled = seed is not None
        self._random = np.random.default_rng(seed)
        self._batches: list[list[EncodedExample]] = []
        self.on_epoch_end()

    def __len__(self) -> int:
        """Batches in this epoch."""
        return len(self._batches)

    def __getitem__(
        self, index: int
    ) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Returns one padded batch; see the class for shapes."""
        batch = self._batches[index]
        token_ids = np.zeros((self.batch_size, _batch_length(batch)), np.int32)
        class_ids = np.zeros(self.batch_size, np.int32)
        weights = np.zeros(self.batch_size, np.float32)
        for row, example in enumerate(batch):
            token_ids[row, : len(example.token_ids)] = example.token_ids
            class_ids[row] = example.class_id
            weights[row] = 1.0
        return (
            token_ids,
            dict.fromkeys(self.outputs, class_ids),
            dict.fromkeys(self.outputs, weights),
        )

    def on_epoch_end(self) -> None:
        """Draws new excerpts and a new order."""
        by_length: dict[int, list[EncodedExample]] = {}
        for example in [*self.examples, *self._excerpts()]:
            by_length.setdefault(bucket_length(len(example.token_ids)), []).append(example)
        self._batches = []
        for group in by_length.values():
            if self._shuffled:
                group = [group[i] for i in self._random.permutation(len(group))]
            self._batches += [
                group[i : i + self.batch_size] for i in range(0, len(group), self.batch_size)
            ]
        if self._shuffled:
            order = self._random.permutation(len(self._batches))
            self._batches = [self._batches[i] for i in order]
        self._show_variable_length_early()

    def _show_variable_length_early(self) -> None:
        """Puts a batch of another length second.

        Keras takes an axis for variable only if the first two batches differ in it.
        """
        lengths = [_batch_length(batch) for batch in self._batches]
        other = next((i for i, length in enumerate(lengths) if length != lengths[0]), None)
        if other is not None:
            first = self._batches[1]
            self._batches[1], self._batches[other] = self._batches[other], first

    def _excerpts(self) -> Iterator[EncodedExample]:
        for example in self.examples:
            length = len(example.token_ids)
            if length > 40 and self._random.random() < self.crop_probability:
                size = int(self._random.integers(10, min(60, length)))
                start = int(self._random.integers(0, length - size))
                excerpt = example.token_ids[start : start + size]
                yield EncodedExample(excerpt, example.class_id)


def _batch_length(batch: Sequence[EncodedExample]) -> int:
    return bucket_length(max(len(example.token_ids) for example in batch))


def bucket_length(length: int) -> int:
    """Returns the smallest bucket length that holds `length` tokens."""
    for bucket in BUCKET_LENGTHS:
        if length <= bucket:
            return bucket
    return -(-length // BUCKET_LENGTHS[-1]) * BUCKET_LENGTHS[-1]
