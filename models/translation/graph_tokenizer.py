"""Text to subword ids and back inside a TensorFlow graph.

The same answers as `protocol.subwords`, whose docstring defines them, with stock ops that the
official TensorFlow Serving image has. All words of all texts are merged at once, one pair of each
word in a turn. Memory is linear in the length of the texts.

In the shapes N counts texts, C characters, S symbols (characters, marks and what they are merged
to), P the parts of at most 48 characters that are merged on their own: words, as a rule.
"""

from typing import Any

import tensorflow as tf

from protocol.subwords import (
    END_ID,
    FIRST_PIECE_ID,
    LONGEST_WORD,
    PADDING_ID,
    SPECIAL_PIECES,
    UNKNOWN_ID,
    UNKNOWN_TEXT,
    WORD_START,
    SubwordTokenizer,
)

Tensor = Any

# What the table of characters says of those that never reach a piece.
_SPACE, _DELETED = -1, -2


class GraphTokenizer(tf.Module):
    """Does what a `SubwordTokenizer` does. It can be saved as part of a SavedModel.

    Args:
        tokenizer: its pieces, characters and limit become constants of the graph.
    """

    def __init__(self, tokenizer: SubwordTokenizer) -> None:
        super().__init__()
        pieces = tokenizer.pieces
        self._size = tokenizer.vocabulary_size
        self._max_tokens = tokenizer.max_tokens
        self._mark = FIRST_PIECE_ID + pieces.index(WORD_START)
        self._shown = [*SPECIAL_PIECES, *pieces]
        spelled = [piece.replace(WORD_START, " ") for piece in pieces]
        self._spelled = ["", UNKNOWN_TEXT, "", "", *spelled]
        self._characters = _make_table(_character_ids(tokenizer), UNKNOWN_ID)
        merged = _merged_ids(tokenizer)
        self._merges: Any = _make_table(merged, self._size) if merged else None

    def encode(self, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Turns texts into ids.

        Args:
            text: string [N], N may be 0.

        Returns:
            token_ids int32 [N, T] (padded with 0, T >= 1), tokens int32 [N] (counted before
            truncation, the end included) and truncated bool [N].
        """
        ids, parts, row_of_part = self._split(text)
        ids, parts = self._merge(ids, parts)
        rows = tf.gather(row_of_part, parts)  # [S]
        lengths = tf.math.unsorted_segment_sum(tf.ones_like(rows), rows, tf.size(text))  # [N]
        token_ids = self._pad(tf.cast(ids, tf.int32), rows, lengths)
        tokens = lengths + 1
        return token_ids, tokens, tokens > self._max_tokens

    def decode(self, ids: Tensor) -> Tensor:
        """Turns ids int32 [..., T] into texts, string [...]; fails on ids that do not exist."""
        stops = tf.cast((ids == END_ID) | (ids == PADDING_ID), tf.int32)
        spelled = tf.gather(tf.constant(self._spelled), ids)
        spelled = tf.where(tf.cumsum(stops, axis=-1) == 0, spelled, "")
        return tf.strings.strip(tf.strings.reduce_join(spelled, axis=-1))

    def pieces(self, ids: Tensor) -> Tensor:
        """Returns how ids int32 [..., T] are shown, string [..., T]; fails as `decode` does."""
        return tf.gather(tf.constant(self._shown), ids)

    def _split(self, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Looks characters up and puts the mark before each word.

        Returns:
            Ids int64 [S], the part of each int32 [S] in ascending order, and the text of each
            part int32 [P].
        """
        codes = tf.strings.unicode_decode(text, "UTF-8", errors="replace")
        ids = self._characters.lookup(tf.cast(codes.flat_values, tf.int64))  # [C]
        rows = tf.cast(codes.value_rowids(), tf.int32)
        ids, rows = _select(ids != _DELETED, ids, rows)
        starts = _previous(ids == _SPACE, True) | (rows != _previous(rows, -1))
        ids, rows, starts = _select(ids != _SPACE, ids, rows, starts)
        cuts = _places_in_words(starts) % LONGEST_WORD == 0
        parts = tf.cumsum(tf.cast(cuts, tf.int32)) - 1
        row_of_part = tf.boolean_mask(rows, cuts)
        marks = tf.fill(tf.shape(ids), tf.constant(self._mark, tf.int64))
        exist = tf.stack([starts, tf.ones_like(starts)], 1)  # [C, 2]: a mark and a character
        ids = tf.boolean_mask(tf.stack([marks, ids], 1), exist)
        return ids, tf.boolean_mask(tf.stack([parts, parts], 1), exist), row_of_part

    def _merge(self, ids: Tensor, parts: Tensor) -> tuple[Tensor, Tensor]:
        """Merges one pair of every part in each turn, until none is left to merge."""
        if self._merges is None:
            return ids, parts
        more, flat = tf.constant(True), tf.TensorShape([None])
        ids, parts, _ = tf.while_loop(
            lambda ids, parts, more: more,
            self._merge_once,
            [ids, parts, more],
            shape_invariants=[flat, flat, more.shape],
        )
        return ids, parts

    def _merge_once(self, ids: Tensor, parts: Tensor, _: Tensor) -> tuple[Tensor, ...]:
        """Returns ids and parts with fewer symbols, and whether anything was merged."""
        symbols = tf.size(ids, tf.int64)
        part = parts[:-1]  # [S - 1], as all that follows: of the pair that begins there
        pairs = self._merges.lookup(ids[:-1] * self._size + ids[1:])
        pairs = tf.where(part == parts[1:], pairs, self._size)
        order = pairs * symbols + tf.range(tf.size(pairs, tf.int64))  # lowest id, then leftmost
        first = order == tf.gather(tf.math.segment_min(order, part), part)
        merged = tf.concat([first & (pairs < self._size), [False]], 0)[:symbols]  # [S]
        ids = tf.where(merged, tf.concat([pairs, [self._size]], 0)[:symbols], ids)
        ids, parts = _select(~_previous(merged, False), ids, parts)
        return ids, parts, tf.reduce_any(merged)

    def _pad(self, ids: Tensor, rows: Tensor, lengths: Tensor) -> Tensor:
        """Lays ids [S] out in their rows, as many of lengths [N] as may be kept, and ends each."""
        kept = tf.minimum(lengths, self._max_tokens - 1)
        columns = tf.range(tf.size(ids)) - tf.gather(tf.cumsum(lengths, exclusive=True), rows)
        ids, rows, columns = _select(columns < tf.gather(kept, rows), ids, rows, columns)
        ends = tf.stack([tf.range(tf.size(lengths)), kept], 1)  # [N, 2]
        places = tf.concat([tf.stack([rows, columns], 1), ends], 0)
        ids = tf.concat([ids, tf.fill(tf.shape(lengths), END_ID)], 0)
        width = tf.reduce_max(tf.concat([kept, [0]], 0)) + 1
        return tf.scatter_nd(places, ids, [tf.size(lengths), width])


def _previous(values: Tensor, first: bool | int) -> Tensor:
    """Returns the value before each; `first` stands before the first."""
    return tf.concat([[first], values], 0)[:-1]


def _select(kept: Tensor, *values: Tensor) -> list[Tensor]:
    """Returns those of each of the values [C] that are kept."""
    places = tf.where(kept)[:, 0]
    return [tf.gather(value, places) for value in values]


def _places_in_words(starts: Tensor) -> Tensor:
    """Counts the characters [C] of each word from 0; `starts` tells where a word begins."""
    start_of_word = tf.cast(tf.where(starts)[:, 0], tf.int32)
    word = tf.cumsum(tf.cast(starts, tf.int32)) - 1
    return tf.range(tf.size(starts)) - tf.gather(start_of_word, word)


def _make_table(entries: dict[int, int], default: int) -> Any:
    keys = tf.constant(list(entries), tf.int64)
    values = tf.constant(list(entries.values()), tf.int64)
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), default)


def _character_ids(tokenizer: SubwordTokenizer) -> dict[int, int]:
    """Returns what each code point becomes: an id, a space or nothing."""
    ids = {piece: index for index, piece in enumerate(tokenizer.pieces, FIRST_PIECE_ID)}
    replaced = {piece: piece for piece in ids if len(piece) == 1} | {" ": " "}
    replaced |= tokenizer.characters | {WORD_START: "_"}
    ids |= {" ": _SPACE, "": _DELETED}
    return {ord(old): ids.get(new, UNKNOWN_ID) for old, new in replaced.items()}


def _merged_ids(tokenizer: SubwordTokenizer) -> dict[int, int]:
    """Returns the id of each pair of pieces that form a piece, by left id * size + right id."""
    ids = {piece: index for index, piece in enumerate(tokenizer.pieces, FIRST_PIECE_ID)}
    return {
        ids[piece[:cut]] * tokenizer.vocabulary_size + ids[piece[cut:]]: index
        for piece, index in ids.items()
        for cut in range(1, len(piece))
        if piece[:cut] in ids and piece[cut:] in ids
    }
