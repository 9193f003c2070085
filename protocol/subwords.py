"""Turns text into the ids of subwords and back, by byte pair encoding that ships beside the model.

The tokenizer is data: pieces in the order of their merging, and a map of characters. A SavedModel
does the same steps with stock TensorFlow ops and gives the same ids. No step depends on a locale
or on a version of Unicode.
"""

import json
import operator
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from protocol.errors import DataLossError
from protocol.tokenizer import Encoded, EncodedBatch

FORMAT = "subword_tokenizer/1"
SUBWORDS_FILE = "subwords.json"

PADDING_ID = 0
UNKNOWN_ID = 1
START_ID = 2
END_ID = 3
FIRST_PIECE_ID = 4

SPECIAL_PIECES = ("", "<unk>", "<s>", "</s>")  # how the first four ids are shown
UNKNOWN_TEXT = "\N{REPLACEMENT CHARACTER}"  # what an unknown character is decoded to
WORD_START = "\u2581"
LONGEST_WORD = 48  # code points; bounds the time that one word takes

_SPECIAL_IDS = {
    "padding_id": PADDING_ID,
    "unknown_id": UNKNOWN_ID,
    "start_id": START_ID,
    "end_id": END_ID,
}
_CACHED_WORDS = 2**15


class SubwordTokenizer:
    """Splits text into words, and merges the characters of each word into pieces.

    1. Bytes are decoded as UTF-8, anything invalid becomes U+FFFD.
    2. Each character is replaced as `characters` says; U+2581 becomes "_".
    3. Spaces separate the words. A word longer than 48 characters is cut into parts of 48.
    4. U+2581 is put before each word (of a cut word, before its first part).
    5. Of all adjacent pairs that form a piece, the one whose piece has the lowest id is merged,
       the leftmost first, until no pair forms a piece.
    6. A character that is no piece gets the id 1. It is never merged.
    7. The id 3 ends the text. Of a text that is too long, the end is cut.

    Args:
        pieces: in the order of their ids, the first has the id 4. Every character of a piece is
            a piece itself, and so is U+2581.
        characters: one character to another, or to nothing ("").
        max_tokens: largest number of ids, the one at the end included.

    Source: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units",
    section 3.2; the mark of a word's start as in Kudo and Richardson 2018, "SentencePiece".

    Raises:
        ValueError: an argument is not as described above.
    """

    def __init__(
        self, pieces: Sequence[str], characters: Mapping[str, str], max_tokens: int
    ) -> None:
        if max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {max_tokens}")
        self.pieces = tuple(pieces)
        self.characters = dict(characters)
        self.max_tokens = operator.index(max_tokens)
        _check_pieces(self.pieces)
        _check_characters(self.characters)
        self._replacements = str.maketrans(self.characters | {WORD_START: "_"})
        self._ids = {piece: index for index, piece in enumerate(self.pieces, FIRST_PIECE_ID)}
        self._shown = SPECIAL_PIECES + self.pieces
        self._cached_word_ids = lru_cache(_CACHED_WORDS)(self._word_ids)

    @classmethod
    def from_folder(cls, assets: Path) -> "SubwordTokenizer":
        """Reads the tokenizer's file.

        Raises:
            DataLossError: the file is missing or not of the expected form; the message names it.
        """
        file = assets / SUBWORDS_FILE
        try:
            document = json.loads(file.read_bytes().decode())
        except (OSError, ValueError) as error:
            raise DataLossError(f"tokenizer in {assets} cannot be read: {error}") from error
        _check_document(document, file)
        try:
            return cls(document["pieces"], document["characters"], document["max_tokens"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataLossError(f"{file} is not a tokenizer: {error!r}") from error

    def save(self, assets: Path) -> None:
        """Writes the tokenizer's file into a folder, which is made if need be."""
        document = {
            "format": FORMAT,
            "max_tokens": self.max_tokens,
            **_SPECIAL_IDS,
            "characters": self.characters,
            "pieces": self.pieces,
        }
        assets.mkdir(parents=True, exist_ok=True)
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        (assets / SUBWORDS_FILE).write_bytes(text.encode())

    @property
    def vocabulary_size(self) -> int:
        """Number of ids in use, the four special ones included."""
        return len(self._shown)

    def normalize(self, text: bytes | str) -> str:
        """Returns the text with its characters replaced, and one space between words.

        It is what `decode` gives back for the ids of `text`, if no character is unknown and
        nothing was cut.
        """
        return " ".join(self._words(text))

    def encode(self, text: bytes | str) -> Encoded:
        """Turns one text into ids; `tokens` counts them all, also those that are cut."""
        ids: list[int] = []
        for word in self._words(text):
            if len(word) <= LONGEST_WORD:
                ids += self._cached_word_ids(WORD_START + word)
            else:
                ids += self._long_word_ids(word)
        tokens = len(ids) + 1
        del ids[self.max_tokens - 1 :]
        ids.append(END_ID)
        return Encoded(ids, tokens, truncated=tokens > self.max_tokens)

    def encode_batch(self, texts: Iterable[bytes | str]) -> EncodedBatch:
        """Turns texts into one array of ids, padded to the longest of them."""
        return EncodedBatch.of([self.encode(text) for text in texts])

    def pieces_of(self, ids: Iterable[int]) -> list[str]:
        """Returns how each id is shown: its piece, "<unk>", "<s>", "</s>", or "" for padding.

        Raises:
            ValueError: an id lies outside the vocabulary.
        """
        return [self._shown[index] for index in self._checked(ids)]

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids up to the first end or padding; U+FFFD stands for unknown.

        Raises:
            ValueError: an id lies outside the vocabulary.
        """
        parts = []
        for index in self._checked(ids):
            if index in (PADDING_ID, END_ID):
                break
            if index != START_ID:
                parts.append(UNKNOWN_TEXT if index == UNKNOWN_ID else self._shown[index])
        return "".join(parts).replace(WORD_START, " ").strip(" ")

    def _words(self, text: bytes | str) -> list[str]:
        if isinstance(text, str):
            text = text.encode("utf-8", "surrogatepass")
        clean = text.decode("utf-8", "replace").translate(self._replacements)
        return [word for word in clean.split(" ") if word]

    def _long_word_ids(self, word: str) -> list[int]:
        ids = list(self._word_ids(WORD_START + word[:LONGEST_WORD]))
        for start in range(LONGEST_WORD, len(word), LONGEST_WORD):
            ids += self._word_ids(word[start : start + LONGEST_WORD])
        return ids

    def _word_ids(self, word: str) -> tuple[int, ...]:
        """Merges the characters of a word that bears its mark."""
        id_of, none = self._ids.get, self.vocabulary_size
        symbols = list(word)
        pairs = [id_of(left + right, none) for left, right in pairwise(symbols)]
        while pairs and (lowest := min(pairs)) < none:
            at = pairs.index(lowest)
            symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
            del pairs[at]
            if at > 0:
                pairs[at - 1] = id_of(symbols[at - 1] + symbols[at], none)
            if at < len(pairs):
                pairs[at] = id_of(symbols[at] + symbols[at + 1], none)
        return tuple(id_of(symbol, UNKNOWN_ID) for symbol in symbols)

    def _checked(self, ids: Iterable[int]) -> list[int]:
        checked = [int(index) for index in ids]
        outside = [index for index in checked if not 0 <= index < self.vocabulary_size]
        if outside:
            raise ValueError(f"ids must lie in 0..{self.vocabulary_size - 1}, got {outside[:5]}")
        return checked


def _check_pieces(pieces: Sequence[str]) -> None:
    unfit = [piece for piece in pieces if piece.split() != [piece] or WORD_START in piece[1:]]
    if unfit:
        raise ValueError(
            f"pieces must be non-empty, without whitespace, and bear {WORD_START!r} at their "
            f"start only, got {unfit[:5]}"
        )
    if len(set(pieces)) != len(pieces):
        repeated = [piece for piece, count in Counter(pieces).items() if count > 1]
        raise ValueError(f"pieces repeat: {repeated[:5]}")
    missing = {WORD_START}.union(*pieces).difference(pieces)
    if missing:
        raise ValueError(
            f"each character of a piece and {WORD_START!r} must be pieces too, "
            f"missing {sorted(missing)[:5]}"
        )


def _check_characters(characters: Mapping[str, str]) -> None:
    unfit = {
        old: new
        for old, new in characters.items()
        if len(old) != 1 or len(new) > 1 or old in (" ", WORD_START) or new == WORD_START
    }
    if unfit:
        raise ValueError(
            f"characters must map one character to one or none, not {' '!r} or {WORD_START!r}, "
            f"got {dict(list(unfit.items())[:5])}"
        )


def _check_document(document: Any, file: Path) -> None:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = document.get("format") if isinstance(document, dict) else document
        raise DataLossError(f"{file} has format {found!r}, expected {FORMAT!r}")
    ids = {name: document.get(name) for name in _SPECIAL_IDS}
    if ids != _SPECIAL_IDS:
        raise DataLossError(f"{file} has the special ids {ids}, expected {_SPECIAL_IDS}")
