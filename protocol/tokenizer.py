"""Turns text into token ids by rules that ship beside the model.

The rules are regular expressions in the common subset of `re` and RE2, so that a SavedModel
applies the very same ones with `tf.strings` and gives the same ids. No step depends on a locale
or on a version of Unicode.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.errors import DataLossError

FORMAT = "word_tokenizer/1"
RULES_FILE = "tokenizer.json"
VOCABULARY_FILE = "vocabulary.txt"

PADDING_ID = 0
UNKNOWN_ID = 1
FIRST_WORD_ID = 2

_OTHER_WHITESPACE = "\t\n\r\v\f"
_REPLACEMENT = re.compile(r"(?:[^\\\t\n\r\v\f]|\\[1-9])*")  # what `re` and RE2 read alike


@dataclass(frozen=True)
class Encoded:
    """Token ids of one text.

    Attributes:
        ids: at most `max_tokens` ids, without padding.
        tokens: number of words in the text, those that were cut out included.
        truncated: whether words were cut out.
    """

    ids: list[int]
    tokens: int
    truncated: bool


@dataclass(frozen=True)
class EncodedBatch:
    """Token ids of several texts.

    Attributes:
        token_ids: int32 [N, T], each row padded with 0 at its end; T is at least 1.
        tokens: int32 [N], words in each text.
        truncated: bool [N], whether words were cut out.
    """

    token_ids: npt.NDArray[np.int32]
    tokens: npt.NDArray[np.int32]
    truncated: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, rows: Sequence[Encoded]) -> "EncodedBatch":
        """Joins encoded texts, padded to the longest of them."""
        width = max([1, *(len(row.ids) for row in rows)])
        padded = [row.ids + [PADDING_ID] * (width - len(row.ids)) for row in rows]
        return cls(
            token_ids=np.array(padded, dtype=np.int32).reshape(len(rows), width),
            tokens=np.array([row.tokens for row in rows], dtype=np.int32),
            truncated=np.array([row.truncated for row in rows], dtype=np.bool_),
        )


class WordTokenizer:
    r"""Splits text into words by rules, and looks up their ids.

    1. Bytes are decoded as UTF-8, anything invalid becomes U+FFFD.
    2. The letters A to Z become lower case.
    3. Each rule replaces what its pattern matches, one rule after the other.
    4. Spaces separate the words.
    5. Words outside the vocabulary get the id 1.
    6. Of a text that is too long, the first and the last words are kept.

    Args:
        vocabulary: the words; the first has the id 2.
        rules: (pattern, replacement) in the order of application. Patterns must mean the same
            in `re` (with `re.ASCII`) and RE2, whose \s does not match \v. Replacements are
            text and the groups \1 to \9. No whitespace but spaces may be left at the end.
        max_tokens: largest number of ids.
        head_tokens: how many of them are taken from the beginning of a text that is too long.

    Raises:
        ValueError: a rule is not valid, the rules let other whitespace than spaces through, a
            word repeats or holds whitespace, or the numbers do not fit together.
    """

    def __init__(
        self,
        vocabulary: Iterable[str],
        rules: Sequence[tuple[str, str]],
        max_tokens: int,
        head_tokens: int,
    ) -> None:
        if not 0 <= head_tokens <= max_tokens or max_tokens < 1:
            raise ValueError(
                "tokenizer needs 0 <= head_tokens <= max_tokens and max_tokens >= 1, "
                f"got head_tokens={head_tokens}, max_tokens={max_tokens}"
            )
        self.vocabulary = tuple(vocabulary)
        self.rules = tuple((pattern, replacement) for pattern, replacement in rules)
        self.max_tokens = max_tokens
        self.head_tokens = head_tokens
        _check_vocabulary(self.vocabulary)
        self._ids = {word: index for index, word in enumerate(self.vocabulary, FIRST_WORD_ID)}
        self._substitutions = [_substitution(*rule) for rule in self.rules]
        self._check_whitespace()

    @classmethod
    def from_folder(cls, assets: Path) -> "WordTokenizer":
        """Reads the tokenizer's two files.

        Raises:
            DataLossError: a file is missing or not of the expected form; the message names it.
        """
        rules_file, vocabulary_file = assets / RULES_FILE, assets / VOCABULARY_FILE
        try:
            document = json.loads(rules_file.read_text(encoding="utf-8"))
            text = vocabulary_file.read_bytes().decode()
        except (OSError, ValueError) as error:
            raise DataLossError(f"tokenizer in {assets} cannot be read: {error}") from error
        _check_document(document, rules_file)
        try:
            return cls(
                vocabulary=text.removesuffix("\n").split("\n") if text else (),
                rules=[(pattern, replacement) for pattern, replacement in document["rules"]],
                max_tokens=document["max_tokens"],
                head_tokens=document["head_tokens"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataLossError(f"{rules_file} is not a tokenizer: {error!r}") from error

    def save(self, assets: Path) -> None:
        """Writes the tokenizer's two files into a folder, which is made if need be."""
        document = {
            "format": FORMAT,
            "rules": [list(rule) for rule in self.rules],
            "max_tokens": self.max_tokens,
            "head_tokens": self.head_tokens,
            "padding_id": PADDING_ID,
            "unknown_id": UNKNOWN_ID,
        }
        assets.mkdir(parents=True, exist_ok=True)
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        (assets / RULES_FILE).write_bytes(text.encode())
        lines = "".join(f"{word}\n" for word in self.vocabulary)
        (assets / VOCABULARY_FILE).write_bytes(lines.encode())

    def words(self, text: bytes | str) -> list[str]:
        """Splits a text into all its words."""
        if isinstance(text, str):
            text = text.encode("utf-8", "surrogatepass")
        clean = text.lower().decode("utf-8", "replace")  # on bytes, `lower` knows A to Z only
        return [word for word in self._apply_rules(clean).split(" ") if word]

    def encode(self, text: bytes | str) -> Encoded:
        """Turns one text into ids."""
        words = self.words(text)
        tokens = len(words)
        truncated = tokens > self.max_tokens
        if truncated:
            tail_tokens = self.max_tokens - self.head_tokens
            words = words[: self.head_tokens] + words[tokens - tail_tokens :]
        look_up = self._ids.get
        return Encoded([look_up(word, UNKNOWN_ID) for word in words], tokens, truncated)

    def encode_batch(self, texts: Iterable[bytes | str]) -> EncodedBatch:
        """Turns texts into one array of ids, padded to the longest of them."""
        return EncodedBatch.of([self.encode(text) for text in texts])

    def _apply_rules(self, text: str) -> str:
        for substitute, replacement in self._substitutions:
            text = substitute(replacement, text)
        return text

    def _check_whitespace(self) -> None:
        """Tries the rules on every whitespace character that is not a space."""
        for character in _OTHER_WHITESPACE:
            left = self._apply_rules(f"a{character}b{character}{character}")
            if not set(left).isdisjoint(_OTHER_WHITESPACE):
                raise ValueError(
                    f"rules must turn whitespace into spaces, but {character!r} is left in {left!r}"
                )


def _check_vocabulary(vocabulary: Sequence[str]) -> None:
    unfit = [word for word in vocabulary if word.split() != [word]]
    if unfit:
        raise ValueError(f"words must be non-empty and without whitespace, got {unfit[:5]}")
    if len(set(vocabulary)) != len(vocabulary):
        repeated = [word for word, count in Counter(vocabulary).items() if count > 1]
        raise ValueError(f"vocabulary repeats words: {repeated[:5]}")


def _substitution(pattern: str, replacement: str) -> tuple[Callable[[str, str], str], str]:
    """Makes one rule's function and its first argument."""
    if not _REPLACEMENT.fullmatch(replacement):
        raise ValueError(
            f"replacement {replacement!r} of {pattern!r} may hold text without whitespace but "
            r"spaces, and the groups \1 to \9"
        )
    try:
        substitute = re.compile(pattern, re.ASCII).sub
        substitute(replacement, "")
    except re.error as error:
        raise ValueError(f"{(pattern, replacement)} is not a valid rule: {error}") from None
    return substitute, replacement


def _check_document(document: Any, file: Path) -> None:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = document.get("format") if isinstance(document, dict) else document
        raise DataLossError(f"{file} has format {found!r}, expected {FORMAT!r}")
    ids = (document.get("padding_id"), document.get("unknown_id"))
    if ids != (PADDING_ID, UNKNOWN_ID):
        raise DataLossError(
            f"{file} has (padding_id, unknown_id) = {ids}, expected {(PADDING_ID, UNKNOWN_ID)}"
        )
