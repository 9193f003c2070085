"""Translates many texts with a network: those of like length together."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from models.translation.config import DecodingConfig
from models.translation.data import EncodedPair
from models.translation.decoding import beam_search, greedy_search, length_limits
from models.translation.losses import token_losses
from models.translation.network import Translator
from protocol.subwords import END_ID, PADDING_ID, START_ID, SubwordTokenizer

BATCH_SIZE = 64
LENGTH_STEP = 8


@dataclass(frozen=True)
class Hypotheses:
    """Translations of one text, best first.

    Attributes:
        token_ids: of each, without END and padding.
        scores: log-probability over the length penalty.
    """

    token_ids: list[list[int]]
    scores: list[float]


class Searcher:
    """Searches for translations; compiled once, it follows the network's weights.

    Args:
        network: a `Translator`.
        config: how to search.
        beam_width: 1 is greedy; None takes the configuration's.
    """

    def __init__(
        self, network: Translator, config: DecodingConfig, beam_width: int | None = None
    ) -> None:
        width = config.beam_width if beam_width is None else beam_width

        def search(source_ids: Any) -> tuple[Any, Any]:
            limits = length_limits(source_ids, config, config.max_length)
            if width == 1:
                found = greedy_search(network, source_ids, limits, config.length_penalty)
            else:
                found = beam_search(network, source_ids, limits, width, config.length_penalty)
            return found.token_ids, found.scores

        self._search = _compiled(search)

    def __call__(self, sources: Sequence[Sequence[int]]) -> list[Hypotheses]:
        """Translates token ids that end with END; answers in the order of the sources."""
        answers: dict[int, Hypotheses] = {}
        for rows in batches_by_length(sources):
            found = self._search(padded([sources[row] for row in rows]))
            token_ids, scores = map(ops.convert_to_numpy, found)
            for row, ids, score in zip(rows, token_ids, scores, strict=True):
                answers[row] = Hypotheses([until_end(each) for each in ids], score.tolist())
        return [answers[row] for row in range(len(sources))]


def _compiled(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Makes one graph for all shapes under TensorFlow; JAX compiles the loop by itself."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    signature = [tf.TensorSpec([None, None], tf.int32)]
    return tf.function(function, input_signature=signature, autograph=False)


def translate(searcher: Searcher, tokenizer: SubwordTokenizer, texts: Sequence[str]) -> list[str]:
    """Returns the best translation of each text."""
    found = searcher([tokenizer.encode(text).ids for text in texts])
    return [tokenizer.decode(hypotheses.token_ids[0]) for hypotheses in found]


def batches_by_length(sources: Sequence[Sequence[int]]) -> Iterable[list[int]]:
    """Yields the rows of batches of like length, shortest first."""
    order = sorted(range(len(sources)), key=lambda row: len(sources[row]))
    for start in range(0, len(order), BATCH_SIZE):
        yield order[start : start + BATCH_SIZE]


def padded(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Returns rows of token ids as int32 [N, T], T a multiple of 8: few shapes to compile."""
    longest = max(map(len, rows))
    ids = np.full((len(rows), -(-longest // LENGTH_STEP) * LENGTH_STEP), PADDING_ID, np.int32)
    for row, values in enumerate(rows):
        ids[row, : len(values)] = values
    return ids


def until_end(token_ids: Sequence[int]) -> list[int]:
    """Returns the tokens before END or padding."""
    kept = []
    for token in map(int, token_ids):
        if token in (END_ID, PADDING_ID):
            break
        kept.append(token)
    return kept


def source_weights(
    network: Translator, source_ids: Sequence[int], target_ids: Sequence[int]
) -> np.ndarray:
    """Returns the attention of one translation, float32 [T + 1, S]; the last row is END's."""
    weights = network.source_weights(
        np.array([source_ids], np.int32), np.array([[START_ID, *target_ids]], np.int32)
    )
    return ops.convert_to_numpy(weights)[0]


def mean_loss(network: Translator, pairs: Sequence[EncodedPair]) -> float:
    """Returns the mean negative log-likelihood of the targets' tokens, END included."""
    total = tokens = 0.0
    for rows in batches_by_length([pair.target_ids.tolist() for pair in pairs]):
        sources = padded([pairs[row].source_ids.tolist() for row in rows])
        targets = padded([pairs[row].target_ids.tolist() for row in rows])
        before = np.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=START_ID)
        logits = network({"source_ids": sources, "target_in": before}, training=False)["logits"]
        total += float(ops.sum(token_losses(targets, logits)))
        tokens += float((targets != PADDING_ID).sum())
    return total / max(tokens, 1.0)
