"""The sentiment model's words: splitting rules, vocabulary, and the same steps as TensorFlow ops.

The rules are data. `protocol.tokenizer.WordTokenizer` applies them in Python and `GraphTokenizer`
in a TensorFlow graph; both read the same asset files, so both give the same ids.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from models.sentiment.config import TokenizerConfig
from protocol.tokenizer import WordTokenizer

# Patterns in the common subset of Python's `re` (ASCII mode) and RE2. Order matters.
# English clitics are split as in the Penn Treebank ("don't" -> "do n't"), which is how SST-2 and
# MR come, so that raw and pre-tokenised text meet in one vocabulary.
RULES: tuple[tuple[str, str], ...] = (
    ("[\u2018\u2019\u02bc`\u00b4]", "'"),
    ("[\u201c\u201d\u00ab\u00bb]", '"'),
    ("[\u2010-\u2015]", "-"),
    ("\u2026", ".."),
    ("[\u00c0-\u00c5\u00e0-\u00e5]", "a"),
    ("[\u00c7\u00e7]", "c"),
    ("[\u00c8-\u00cb\u00e8-\u00eb]", "e"),
    ("[\u00cc-\u00cf\u00ec-\u00ef]", "i"),
    ("[\u00d1\u00f1]", "n"),
    ("[\u00d2-\u00d6\u00d8\u00f2-\u00f6\u00f8]", "o"),
    ("[\u00d9-\u00dc\u00f9-\u00fc]", "u"),
    ("<br */?>", " "),
    ("-lrb-", "("),
    ("-rrb-", ")"),
    (r"n't\b", " n't"),
    (r"'(s|re|ve|ll|d|m)\b", r" '\1"),
    # A run of other scripts or symbols is one word, which no vocabulary holds.
    ("[^\\x00-\\x7f]+", " \ufffd "),
    (r"\.\.+", " \u2026 "),
    (r'([!?.,;:()"*-])', r" \1 "),
    ("[^a-z0-9'!?.,;:()\"*\u2026\ufffd-]+", " "),
)


def build_vocabulary(texts: Iterable[list[str]], size: int) -> list[str]:
    """Returns the most frequent words, ties in alphabetical order.

    Args:
        texts: the words of each training text.
        size: ids in use; two are taken by padding and unknown, so `size - 2` words come back.
    """
    counts = Counter(word for words in texts for word in words)
    counts.pop("\ufffd", None)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [word for word, _ in ranked[: size - 2]]


def make_tokenizer(config: TokenizerConfig, vocabulary: list[str]) -> WordTokenizer:
    """Returns the tokenizer of a vocabulary, with this model's rules."""
    return WordTokenizer(
        rules=RULES,
        vocabulary=vocabulary,
        max_tokens=config.max_tokens,
        head_tokens=config.head_tokens,
    )


def make_graph_tokenizer(tokenizer: WordTokenizer, vocabulary_file: Path) -> Any:
    """Returns a `tf.Module` that does what `tokenizer` does, with stock TensorFlow ops.

    Its call maps string [N] to token_ids int32 [N, T] (padded with 0, T >= 1), tokens int32 [N]
    (counted before truncation) and truncated bool [N]. Only ops of the official TensorFlow
    Serving image are used.
    """
    import tensorflow as tf

    class GraphTokenizer(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = tf.lookup.StaticHashTable(
                tf.lookup.TextFileInitializer(
                    str(vocabulary_file),
                    tf.string,
                    tf.lookup.TextFileIndex.WHOLE_LINE,
                    tf.int64,
                    tf.lookup.TextFileIndex.LINE_NUMBER,
                ),
                default_value=-1,
            )

        def words(self, text: tf.Tensor) -> tf.RaggedTensor:
            text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")
            text = tf.strings.lower(text)  # ASCII letters only
            for pattern, replacement in tokenizer.rules:
                text = tf.strings.regex_replace(text, pattern, replacement)
            return tf.strings.split(text)

        def __call__(self, text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            words = self.words(text)
            tokens = tf.cast(words.row_lengths(), tf.int32)  # [N]
            truncated = tokens > tokenizer.max_tokens
            words = tf.ragged.boolean_mask(words, self._kept(words, tokens))
            ids = self.table.lookup(words.flat_values)
            # Line i of the file is id i + 2; a word that is absent (-1) is id 1.
            ids = tf.where(ids < 0, tf.ones_like(ids), ids + 2)
            token_ids = words.with_flat_values(tf.cast(ids, tf.int32)).to_tensor(0)
            no_column = tf.cast(tf.shape(token_ids)[1] == 0, tf.int32)
            return tf.pad(token_ids, [[0, 0], [0, no_column]]), tokens, truncated

        @staticmethod
        def _kept(words: tf.RaggedTensor, tokens: tf.Tensor) -> tf.RaggedTensor:
            """Marks head and tail of every text: bool, ragged as `words`."""
            place = tf.ragged.range(tokens)  # 0, 1, ... within each text
            row = words.value_rowids()
            first_of_tail = tf.gather(tokens - (tokenizer.max_tokens - tokenizer.head_tokens), row)
            fits = tf.gather(tokens <= tokenizer.max_tokens, row)
            flat = place.flat_values
            keep = fits | (flat < tokenizer.head_tokens) | (flat >= first_of_tail)
            return words.with_flat_values(keep)

    return GraphTokenizer()
