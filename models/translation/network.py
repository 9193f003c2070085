"""The network of a configuration, and what both kinds of network promise to decoding."""

from collections.abc import Mapping
from typing import Protocol

import keras

from models.translation.attention import AttentionTranslator
from models.translation.config import TranslationConfig
from models.translation.step import State, Step, Tensor
from models.translation.transformer import Transformer


class Translator(Protocol):
    """A network that reads a source once and writes its translation token by token.

    N sources of S tokens; B hypotheses of each, those of one source side by side.
    """

    def __call__(self, inputs: Mapping[str, Tensor], training: bool = False) -> dict[str, Tensor]:
        """Teacher forcing.

        Args:
            inputs: `source_ids` int32 [N, S] and `target_in` int32 [N, T], which begins with
                START.
            training: whether dropout is on.

        Returns:
            `logits`, float32 [N, T, V]: position t predicts the token after `target_in[:, t]`.
        """

    def source_weights(self, source_ids: Tensor, target_in: Tensor) -> Tensor:
        """Returns how much each target position attends to each source token, [N, T, S]."""

    def encode(self, source_ids: Tensor, training: bool = False) -> State:
        """Reads sources, int32 [N, S]; every tensor returned has N rows."""

    def start(self, rows: Tensor, length: Tensor) -> State:
        """Returns the state of `rows` = N B hypotheses before their first token.

        Args:
            rows: of every tensor of the state.
            length: most tokens that will be written; 0 for `growing_step`.
        """

    def step(self, memory: State, state: State, token_ids: Tensor, position: Tensor) -> Step:
        """Reads one more token of each hypothesis.

        Args:
            memory: what `encode` returned.
            state: what `start` or the step before returned; its shape stays.
            token_ids: the token before, int32 [N B]; START at first.
            position: number of steps before this one, int32.
        """

    def growing_step(
        self, memory: State, state: State, token_ids: Tensor, position: Tensor
    ) -> Step:
        """The same, but the state grows with each step instead of having room for all."""


def build_network(config: TranslationConfig, vocabulary_size: int) -> keras.Model:
    """Builds the configured network, a `Translator` with V = `vocabulary_size`."""
    if config.network == "attention":
        return AttentionTranslator(config.attention, vocabulary_size)
    return Transformer(config.transformer, vocabulary_size)
