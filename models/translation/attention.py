"""The recurrent network: a reader in both directions, additive attention, and a writer."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Self

import keras
from keras import layers, ops

from models.translation.config import AttentionConfig
from models.translation.masks import HIDDEN
from models.translation.step import State, Step, Tensor
from protocol.subwords import PADDING_ID

PACKAGE = "keras_model_service.translation"
STATE_NAMES = ("hidden", "cell")  # as Keras' cells take them; a GRU has the first only


@keras.saving.register_keras_serializable(PACKAGE)
class AdditiveAttention(layers.Layer):
    """Looks at all source states, each as much as the decoder's state asks for.

    For decoder state s<t-1> and source states a<t'>, as a small network on their concatenation:

    1. e<t,t'> = v^T tanh(W [s<t-1>; a<t'>]): with W in two parts, W_s s + W_a a, so that the
       second is computed once a sentence and s need not be repeated for each t'.
    2. alpha<t,t'> = softmax over t' of e, padding left out.
    3. context<t> = sum over t' of alpha<t,t'> a<t'>.

    Args:
        units: size of the hidden layer of the energies.
        query_units: size of s.
        state_units: size of a.

    Source: Bahdanau et al. 2015, "Neural Machine Translation by Jointly Learning to Align and
        Translate", section 3.1 and appendix A.1.2.
    """

    def __init__(self, units: int, query_units: int, state_units: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.units = units
        self.query_units = query_units
        self.state_units = state_units
        self.query = layers.Dense(units, use_bias=False, name="query")
        self.state = layers.Dense(units, name="state")
        self.energy = layers.Dense(1, use_bias=False, name="energy")

    def build(self, input_shape: Any = None) -> None:
        """Creates W_s, W_a and v."""
        self.query.build((None, None, self.query_units))
        self.state.build((None, None, self.state_units))
        self.energy.build((None, None, None, self.units))
        self.built = True

    def keys(self, states: Tensor) -> Tensor:
        """Computes W_a a, float [N, S, units] from [N, S, state_units]."""
        return self.state(states)

    def call(
        self, queries: Tensor, keys: Tensor, states: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Attends for B decoder states of each source.

        Args:
            queries: s, float [N, B, query_units].
            keys: what `keys` returned, float [N, S, units].
            states: a, float [N, S, state_units].
            bias: float32 [N, 1, S], large and negative on padding.

        Returns:
            context, float [N, B, state_units], and weights, float32 [N, B, S].
        """
        asked = ops.expand_dims(self.query(queries), 2)
        hidden = ops.tanh(asked + ops.expand_dims(keys, 1))  # (N, B, S, units)
        energies = ops.squeeze(self.energy(hidden), axis=-1)  # (N, B, S)
        weights = ops.softmax(ops.cast(energies, "float32") + ops.cast(bias, "float32"))
        return ops.matmul(ops.cast(weights, states.dtype), states), weights

    def get_config(self) -> dict[str, Any]:
        """Returns what rebuilds the layer."""
        sizes = {"query_units": self.query_units, "state_units": self.state_units}
        return {**super().get_config(), "units": self.units, **sizes}


@keras.saving.register_keras_serializable(PACKAGE)
class AttentionTranslator(keras.Model):
    """Bidirectional encoder, additive attention, recurrent decoder.

    For each output step t, with feedback y<t-1> of the token before:

    1. context<t> = attention(s<t-1>, a).
    2. s<t> (and the cell, of an LSTM) = recurrent([context<t>; y<t-1>], s<t-1>).
    3. logits<t> = W_o tanh(W_h [s<t>; context<t>; y<t-1>]).

    Without feedback the terms of y<t-1> are left out.

    See `models.translation.network.Translator` for what its methods promise.

    Args:
        config: its sizes.
        vocabulary_size: V.

    Source: Bahdanau et al. 2015, section 3 and appendix A.2; step 3 as in Luong et al. 2015,
        equation 5, instead of a maxout layer.
    """

    def __init__(self, config: AttentionConfig, vocabulary_size: int) -> None:
        super().__init__(name="attention_translator")
        self.config = config
        self.vocabulary_size = vocabulary_size
        states = 2 * config.encoder_units
        recurrent = layers.LSTM if config.recurrent == "lstm" else layers.GRU
        cell = layers.LSTMCell if config.recurrent == "lstm" else layers.GRUCell
        self.embedding = layers.Embedding(vocabulary_size, config.embedding_units, name="embedding")
        self.reader = layers.Bidirectional(
            # Unnamed, it would be numbered: weights are stored by name.
            recurrent(config.encoder_units, return_sequences=True, name="recurrent"),
            name="reader",
        )
        self.attention = AdditiveAttention(
            config.energy_units, config.decoder_units, states, name="attention"
        )
        self.initial_state = layers.Dense(
            config.decoder_units, activation="tanh", name="initial_state"
        )
        self.writer = cell(config.decoder_units, name="writer")
        self.output_hidden = layers.Dense(
            config.embedding_units, activation="tanh", name="output_hidden"
        )
        self.output_map = layers.Dense(vocabulary_size, dtype="float32", name="output_map")
        self.dropout_layer = layers.Dropout(config.dropout, name="dropout")
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Creates all weights."""
        config = self.config
        states = 2 * config.encoder_units
        fed_back = config.embedding_units if config.feedback else 0
        self.embedding.build((None, None))
        self.reader.build((None, None, config.embedding_units))
        self.attention.build()
        self.initial_state.build((None, states))
        self.writer.build((None, states + fed_back))
        self.output_hidden.build((None, None, config.decoder_units + states + fed_back))
        self.output_map.build((None, None, config.embedding_units))
        self.built = True

    def call(self, inputs: Mapping[str, Tensor], training: bool = False) -> dict[str, Tensor]:
        """Predicts each next token of whole targets."""
        memory = self.encode(inputs["source_ids"], training)
        features, _ = self._write(memory, inputs["target_in"], training)
        return {"logits": self.output_map(features)}

    def source_weights(self, source_ids: Tensor, target_in: Tensor) -> Tensor:
        """Returns alpha<t,t'>."""
        _, weights = self._write(self.encode(source_ids), target_in, training=False)
        return weights

    def embed_source(self, source_ids: Tensor, training: bool = False) -> Tensor:
        """Looks the sources' vectors up, float [N, S, embedding_units]."""
        return self.dropout_layer(self.embedding(source_ids), training=training)

    def encode(self, source_ids: Tensor, training: bool = False) -> State:
        """Encodes sources; see `memory`."""
        embedded = self.embed_source(source_ids, training)
        states = self.reader(embedded, mask=source_ids != PADDING_ID, training=training)
        return self.memory(source_ids, self.dropout_layer(states, training=training))

    def memory(self, source_ids: Tensor, states: Tensor) -> State:
        """Derives from the encoder's states what decoding needs.

        Returns:
            `states` float [N, S, 2U], `keys` [N, S, energy_units], `bias` float32 [N, 1, S],
            `hidden` float [N, decoder_units].
        """
        seen = ops.cast(source_ids != PADDING_ID, "float32")
        share = ops.cast(
            seen / ops.maximum(ops.sum(seen, axis=1, keepdims=True), 1.0), states.dtype
        )
        mean = ops.sum(states * ops.expand_dims(share, -1), axis=1)  # (N, 2U)
        return {
            "states": states,
            "keys": self.attention.keys(states),
            "bias": ops.expand_dims((1.0 - seen) * HIDDEN, 1),
            "hidden": self.initial_state(mean),
        }

    def start(self, rows: Tensor, length: Tensor) -> State:
        """Returns room for the state; the first step fills it from the memory."""
        zeros = ops.zeros((rows, self.config.decoder_units), self.compute_dtype)
        names = STATE_NAMES if self.config.recurrent == "lstm" else STATE_NAMES[:1]
        return dict.fromkeys(names, zeros)

    def step(self, memory: State, state: State, token_ids: Tensor, position: Tensor) -> Step:
        """Writes one token."""
        rows = ops.shape(memory["states"])[0]
        beams = ops.shape(token_ids)[0] // rows
        initial = ops.repeat(memory["hidden"], beams, axis=0)  # (N B, units)
        state = {**state, "hidden": ops.where(position == 0, initial, state["hidden"])}
        embedded = self.embedding(token_ids)
        state, context, weights = self._advance(memory, state, embedded)
        features = self._features(state["hidden"], context, embedded)
        return Step(self.output_map(features), state, weights)

    growing_step = step

    def get_config(self) -> dict[str, Any]:
        """Returns what rebuilds the network."""
        return {"config": asdict(self.config), "vocabulary_size": self.vocabulary_size}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Rebuilds a network from what `get_config` returned."""
        return cls(AttentionConfig(**config["config"]), config["vocabulary_size"])

    def _write(self, memory: State, target_in: Tensor, training: bool) -> tuple[Tensor, Tensor]:
        """Runs over whole targets: features [N, T, embedding_units] and weights [N, T, S]."""
        embedded = self.dropout_layer(self.embedding(target_in), training=training)
        by_step = ops.transpose(embedded, (1, 0, 2))  # (T, N, E)
        state = {**self.start(ops.shape(target_in)[0], 0), "hidden": memory["hidden"]}
        context = ops.zeros_like(memory["states"][:, 0])
        weights = ops.zeros_like(memory["bias"][:, 0])

        def advance(carry: Any, token: Tensor) -> Any:
            following, seen, weights = self._advance(memory, carry[0], token)
            carry = (following, seen, weights[:, 0])
            return carry, carry

        _, (states, contexts, weights) = ops.scan(advance, (state, context, weights), by_step)
        hidden, contexts, weights = (
            ops.transpose(x, (1, 0, 2)) for x in (states["hidden"], contexts, weights)
        )
        features = self._features(hidden, contexts, embedded)
        return self.dropout_layer(features, training=training), weights

    def _advance(
        self, memory: State, state: State, embedded: Tensor
    ) -> tuple[State, Tensor, Tensor]:
        """One step of N B hypotheses.

        Args:
            memory: of N sources.
            state: of N B hypotheses.
            embedded: the tokens before, float [N B, embedding_units].

        Returns:
            The state after it, the context [N B, 2U] and the weights, float32 [N, B, S].
        """
        rows = ops.shape(memory["states"])[0]
        queries = ops.reshape(state["hidden"], (rows, -1, self.config.decoder_units))
        contexts, weights = self.attention(
            queries, memory["keys"], memory["states"], memory["bias"]
        )
        context = ops.reshape(contexts, (-1, 2 * self.config.encoder_units))
        read = ops.concatenate([context, embedded], axis=-1) if self.config.feedback else context
        names = [name for name in STATE_NAMES if name in state]
        _, values = self.writer(read, [state[name] for name in names])
        return dict(zip(names, values, strict=True)), context, weights

    def _features(self, hidden: Tensor, context: Tensor, embedded: Tensor) -> Tensor:
        parts = [hidden, context, *([embedded] if self.config.feedback else [])]
        return self.output_hidden(ops.concatenate(parts, axis=-1))
