"""The search and what surrounds it, inside a TensorFlow graph.

What `protocol.translation_pipeline` does on the host. In the shapes N counts texts, S the tokens
of the longest, T those of the longest translation, K the translations of each text.
"""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from models.translation.config import DecodingConfig
from models.translation.decoding import Decoded, beam_search, greedy_search, length_limits
from protocol.subwords import END_ID, PADDING_ID, START_ID
from protocol.translation_pipeline import MAX_BEAM_WIDTH

Tensor = Any


class GraphSearch(tf.Module):
    """Searches for translations as a request asks for it. It can be saved in a SavedModel.

    Args:
        network: a `Translator`.
        config: how to search, as far as a request has no say.
    """

    def __init__(self, network: keras.Model, config: DecodingConfig) -> None:
        super().__init__()
        self.network = network
        self.config = config

    def __call__(self, source_ids: Tensor, asked: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Finds the K best translations of each source.

        Args:
            source_ids: int32 [N, S], N and S may be 0.
            asked: `beam_width`, `max_length` and `alternatives`, int32 scalars; K is the beam
                width where `alternatives` is 0.

        Returns:
            token_ids int32 [N, K, T], each ends with END where it was not cut, and scores float32
            [N, K]. Of a source without tokens all translations are empty and score 0.
        """
        beam_width = require_range("beam_width", asked["beam_width"], 1, MAX_BEAM_WIDTH)
        max_length = require_range("max_length", asked["max_length"], 1, self.config.max_length)
        kept = require_range("alternatives", asked["alternatives"], 0, beam_width)
        kept = tf.where(kept == 0, beam_width, kept)
        ids, scores = self._search(fill_empty(source_ids), beam_width, max_length)
        rows = tf.shape(source_ids)[0]
        return without_padding(ids[:rows, :kept]), scores[:rows, :kept]

    def read(self, source_ids: Tensor, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Reads translations again for what each of their tokens attends to.

        Args:
            source_ids: int32 [N, S].
            token_ids: of one translation each, int32 [N, L].

        Returns:
            The translations, int32 [N, T], END at the end of all of them, and the weights,
            float32 [N, T, S], zero on padding.
        """
        targets, before = end_and_begin(token_ids)
        weights = self.network.source_weights(fill_empty(source_ids), fill_empty(before))
        weights = weights[: tf.shape(source_ids)[0]]
        return targets, tf.where(targets[..., None] == PADDING_ID, 0.0, weights)

    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([], tf.int32),
            tf.TensorSpec([], tf.int32),
        ],
    )
    def _search(
        self, source_ids: Tensor, beam_width: Tensor, max_length: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One graph for all signatures: int32 [N, B, L] and float32 [N, B]."""
        blank = tf.reduce_all((source_ids == END_ID) | (source_ids == PADDING_ID), axis=1)
        limits = tf.where(blank, 0, length_limits(source_ids, self.config, max_length))
        alpha = self.config.length_penalty
        ids, scores = tf.cond(
            beam_width == 1,
            lambda: _tensors(greedy_search(self.network, source_ids, limits, alpha)),
            lambda: _tensors(beam_search(self.network, source_ids, limits, beam_width, alpha)),
        )
        return ids, tf.where(blank[:, None], 0.0, scores)


def _tensors(found: Decoded) -> tuple[Tensor, Tensor]:
    return found.token_ids, found.scores


def require_range(name: str, values: Tensor, low: int, high: Tensor) -> Tensor:
    """Returns the values; running the graph fails if one of them is not in `low` to `high`."""
    fits = tf.reduce_all((values >= low) & (values <= high))
    message = tf.strings.format(f"{name} must be {low} to {{}}, got {{}}", [high, values])
    check = tf.debugging.Assert(fits, [message])
    with tf.control_dependencies([check]):
        return tf.identity(values)


def without_padding(ids: Tensor) -> Tensor:
    """Leaves out the last columns of int32 [..., T] that are padding in all rows."""
    places = tf.where(ids != PADDING_ID, tf.range(1, tf.shape(ids)[-1] + 1), 0)
    return ids[..., : _largest(places)]


def fill_empty(ids: Tensor) -> Tensor:
    """Gives int32 [N, T] one row of padding where it has none, and one column likewise.

    An empty batch has no longest row, and attention to nothing is no number.
    """
    missing = tf.cast(tf.shape(ids) == 0, tf.int32)
    return tf.pad(ids, tf.stack([tf.zeros_like(missing), missing], axis=1))


def end_and_begin(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Prepares translations, int32 [N, L], for being read again.

    Returns:
        What is to be predicted, int32 [N, T]: all end with END, and T is as small as it can be.
        And the token before each of them, START at first.
    """
    tokens = tf.where(ids == END_ID, PADDING_ID, ids)
    lengths = tf.reduce_sum(tf.cast(tokens != PADDING_ID, tf.int32), axis=1)  # (N,)
    steps = _largest(lengths) + 1
    tokens = tf.pad(tokens, [[0, 0], [1, 1]])[:, : steps + 1]
    ends = tf.one_hot(lengths, steps, on_value=END_ID, off_value=PADDING_ID, dtype=tf.int32)
    start = tf.one_hot(0, steps, on_value=START_ID, off_value=PADDING_ID, dtype=tf.int32)
    return tokens[:, 1:] + ends, tokens[:, :-1] + start


def _largest(numbers: Tensor) -> Tensor:
    """Returns the largest, 0 where there is none; none is negative."""
    return tf.reduce_max(tf.concat([[0], tf.reshape(numbers, [-1])], axis=0))
