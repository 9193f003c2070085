"""The Transformer: attention alone, with cached decoding."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Self

import keras
from keras import layers, ops

from models.translation.config import TransformerConfig
from models.translation.masks import causal_bias, padding_bias
from models.translation.step import State, Step, Tensor
from protocol.subwords import PADDING_ID

PACKAGE = "keras_model_service.translation"
LONGEST_WAVE = 10_000.0

Write = Callable[[Tensor, Tensor], Tensor]
"""Puts a step's keys or values [N, h, 1, D] into what is kept of the steps before it."""


@keras.saving.register_keras_serializable(PACKAGE)
class MultiHeadAttention(layers.Layer):
    """Scaled dot-product attention in several heads.

    1. Queries, keys and values are linear in their inputs and cut into heads, (N, h, T, D).
    2. weights = softmax(queries keys^T / sqrt(D) + bias), (N, h, T, S).
    3. The heads' weighted sums of values are joined and mapped back, (N, T, units).

    Keys and values are computed apart from the rest, so that decoding can keep them.

    Args:
        units: d_model.
        heads: h; D = units / h.

    Source: Vaswani et al. 2017, "Attention Is All You Need", equation 1 and section 3.2.2.
    """

    def __init__(self, units: int, heads: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.units = units
        self.heads = heads
        self.query = layers.Dense(units, name="query")
        self.key = layers.Dense(units, name="key")
        self.value = layers.Dense(units, name="value")
        self.output_map = layers.Dense(units, name="output")

    def build(self, input_shape: Any = None) -> None:
        """Creates the four linear maps."""
        for dense in (self.query, self.key, self.value, self.output_map):
            dense.build((None, None, self.units))
        self.built = True

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps what is attended to, float [N, S, units], to keys and values [N, h, S, D]."""
        return self._split(self.key(x)), self._split(self.value(x))

    def call(self, x: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Attends.

        Args:
            x: what asks, float [N, T, units].
            keys: float [N, h, S, D].
            values: float [N, h, S, D].
            bias: float32, added to the scores; broadcast to [N, h, T, S].

        Returns:
            float [N, T, units] and the weights, float32 [N, h, T, S].
        """
        queries = self._split(self.query(x))
        scores = ops.matmul(queries, ops.transpose(keys, (0, 1, 3, 2)))  # (N, h, T, S)
        # To scale the queries would be cheaper, but makes TensorFlow 2.21 fuse that product with
        # the linear map (oneDNN), and a loop around it then yields empty tensors.
        scores = scores * (self.units // self.heads) ** -0.5
        weights = ops.softmax(ops.cast(scores, "float32") + ops.cast(bias, "float32"))
        joined = ops.matmul(ops.cast(weights, values.dtype), values)  # (N, h, T, D)
        joined = ops.transpose(joined, (0, 2, 1, 3))
        shape = ops.shape(joined)
        return self.output_map(ops.reshape(joined, (shape[0], shape[1], self.units))), weights

    def _split(self, x: Tensor) -> Tensor:
        """(N, T, units) -> (N, h, T, D)."""
        rows, steps, _ = ops.shape(x)
        x = ops.reshape(x, (rows, steps, self.heads, self.units // self.heads))
        return ops.transpose(x, (0, 2, 1, 3))

    def get_config(self) -> dict[str, Any]:
        """Returns what rebuilds the layer."""
        return {**super().get_config(), "units": self.units, "heads": self.heads}


class FeedForward(layers.Layer):
    """Two linear maps with a ReLU between them, for each position by itself.

    Source: Vaswani et al. 2017, equation 2.
    """

    def __init__(self, config: TransformerConfig, **settings: Any) -> None:
        super().__init__(**settings)
        self.units = config.units
        self.inner = layers.Dense(config.feedforward_units, activation="relu", name="inner")
        self.outer = layers.Dense(config.units, name="outer")

    def build(self, input_shape: Any = None) -> None:
        """Creates both maps."""
        self.inner.build((None, None, self.units))
        self.outer.build((None, None, self.inner.units))
        self.built = True

    def call(self, x: Tensor) -> Tensor:
        """Maps float [N, T, units] to float [N, T, units]."""
        return self.outer(self.inner(x))


class EncoderLayer(layers.Layer):
    """Self-attention, then feed-forward; each normalises its input and adds to it.

    Normalising the input instead of the sum trains without a long warm-up.

    Source: Vaswani et al. 2017, section 3.1; Xiong et al. 2020, figure 1b.
    """

    def __init__(self, config: TransformerConfig, **settings: Any) -> None:
        super().__init__(**settings)
        self.units = config.units
        self.attention = MultiHeadAttention(config.units, config.heads, name="attention")
        self.feedforward = FeedForward(config, name="feedforward")
        self.attention_norm = layers.LayerNormalization(epsilon=1e-6, name="attention_norm")
        self.feedforward_norm = layers.LayerNormalization(epsilon=1e-6, name="feedforward_norm")
        self.dropout = layers.Dropout(config.dropout, name="dropout")

    def build(self, input_shape: Any = None) -> None:
        """Creates the sub-layers."""
        for norm in (self.attention_norm, self.feedforward_norm):
            norm.build((None, None, self.units))
        self.attention.build()
        self.feedforward.build()
        self.built = True

    def call(self, x: Tensor, bias: Tensor, training: bool = False) -> Tensor:
        """Maps float [N, S, units]; `bias` hides padding."""
        normed = self.attention_norm(x)
        heard, _ = self.attention(normed, *self.attention.keys_values(normed), bias)
        x = x + self.dropout(heard, training=training)
        return x + self.dropout(self.feedforward(self.feedforward_norm(x)), training=training)


class DecoderLayer(layers.Layer):
    """Self-attention over what is written, attention over the source, feed-forward.

    Source: Vaswani et al. 2017, section 3.1; Xiong et al. 2020, figure 1b.
    """

    def __init__(self, config: TransformerConfig, **settings: Any) -> None:
        super().__init__(**settings)
        self.units = config.units
        self.attention = MultiHeadAttention(config.units, config.heads, name="attention")
        self.source_attention = MultiHeadAttention(config.units, config.heads, name="source")
        self.feedforward = FeedForward(config, name="feedforward")
        self.norms = [
            layers.LayerNormalization(epsilon=1e-6, name=f"norm{number}") for number in range(3)
        ]
        self.dropout = layers.Dropout(config.dropout, name="dropout")

    def build(self, input_shape: Any = None) -> None:
        """Creates the sub-layers."""
        for norm in self.norms:
            norm.build((None, None, self.units))
        self.attention.build()
        self.source_attention.build()
        self.feedforward.build()
        self.built = True

    def call(
        self,
        x: Tensor,
        bias: Tensor,
        source: tuple[Tensor, Tensor],
        source_bias: Tensor,
        training: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Reads whole targets.

        Args:
            x: float [N, T, units].
            bias: hides later positions; broadcast to [N, h, T, T].
            source: keys and values of the source, [N, h, S, D] each.
            source_bias: hides its padding; broadcast to [N, h, T, S].
            training: whether dropout is on.

        Returns:
            float [N, T, units] and the weights on the source, float32 [N, h, T, S].
        """
        normed = self.norms[0](x)
        heard, _ = self.attention(normed, *self.attention.keys_values(normed), bias)
        x = x + self.dropout(heard, training=training)
        return self._rest(x, source, source_bias, training)

    def step(
        self,
        x: Tensor,
        past: tuple[Tensor, Tensor],
        write: Write,
        bias: Tensor,
        source: tuple[Tensor, Tensor],
        source_bias: Tensor,
    ) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
        """Reads one more token of B hypotheses for each of N sources.

        Args:
            x: float [N B, 1, units].
            past: keys and values of the tokens before it, [N B, h, T, D] each.
            write: puts this token's among them.
            bias: hides what is not written yet; broadcast to [N B, h, 1, T].
            source: keys and values of the source, [N, h, S, D] each.
            source_bias: hides its padding; broadcast to [N, h, B, S].

        Returns:
            float [N B, 1, units], keys and values with this token's among them, and the weights
            on the source, float32 [N, h, B, S].
        """
        normed = self.norms[0](x)
        new = self.attention.keys_values(normed)
        keys, values = (write(old, fresh) for old, fresh in zip(past, new, strict=True))
        heard, _ = self.attention(normed, keys, values, bias)
        rows = ops.shape(source[0])[0]
        by_source = ops.reshape(x + heard, (rows, -1, self.units))  # (N, B, units)
        x, weights = self._rest(by_source, source, source_bias, training=False)
        return ops.reshape(x, (-1, 1, self.units)), (keys, values), weights

    def _rest(
        self, x: Tensor, source: tuple[Tensor, Tensor], source_bias: Tensor, training: bool
    ) -> tuple[Tensor, Tensor]:
        heard, weights = self.source_attention(self.norms[1](x), *source, source_bias)
        x = x + self.dropout(heard, training=training)
        x = x + self.dropout(self.feedforward(self.norms[2](x)), training=training)
        return x, weights


@keras.saving.register_keras_serializable(PACKAGE)
class Transformer(keras.Model):
    """Encoder and decoder of self-attention; one matrix embeds both languages and the output.

    See `models.translation.network.Translator` for what its methods promise.

    Args:
        config: its sizes.
        vocabulary_size: V.
    """

    def __init__(self, config: TransformerConfig, vocabulary_size: int) -> None:
        super().__init__(name="transformer")
        self.config = config
        self.vocabulary_size = vocabulary_size
        self.embedding = layers.ReversibleEmbedding(
            vocabulary_size,
            config.units,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=config.units**-0.5),
            reverse_dtype="float32",
            name="embedding",
        )
        self.dropout_layer = layers.Dropout(config.dropout, name="dropout")
        self.encoder = [
            EncoderLayer(config, name=f"encoder{n}") for n in range(config.encoder_layers)
        ]
        self.decoder = [
            DecoderLayer(config, name=f"decoder{n}") for n in range(config.decoder_layers)
        ]
        self.encoder_norm = layers.LayerNormalization(epsilon=1e-6, name="encoder_norm")
        self.decoder_norm = layers.LayerNormalization(epsilon=1e-6, name="decoder_norm")
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Creates all weights."""
        self.embedding.build()
        layers_with_parts: list[Any] = [*self.encoder, *self.decoder]
        for layer in layers_with_parts:
            layer.build()
        for norm in (self.encoder_norm, self.decoder_norm):
            norm.build((None, None, self.config.units))
        self.built = True

    def call(self, inputs: Mapping[str, Tensor], training: bool = False) -> dict[str, Tensor]:
        """Predicts each next token of whole targets."""
        memory = self.encode(inputs["source_ids"], training)
        x, _ = self._decode(memory, inputs["target_in"], training)
        return {"logits": self.embedding(x, reverse=True)}

    def source_weights(self, source_ids: Tensor, target_in: Tensor) -> Tensor:
        """Returns the weights of the last decoder layer, mean over its heads."""
        _, weights = self._decode(self.encode(source_ids), target_in, training=False)
        return ops.mean(weights, axis=1)

    def encode(self, source_ids: Tensor, training: bool = False) -> State:
        """Encodes sources: `bias` [N, 1, 1, S], `keysL`, `valuesL` [N, h, S, D] for each layer."""
        bias = padding_bias(source_ids != PADDING_ID)
        x = self._embed(source_ids, positions(ops.shape(source_ids)[1], self.config.units))
        x = self.dropout_layer(x, training=training)
        for layer in self.encoder:
            x = layer(x, bias, training=training)
        x = self.encoder_norm(x)
        memory = {"bias": bias}
        for number, layer in enumerate(self.decoder):
            keys, values = layer.source_attention.keys_values(x)
            memory |= {f"keys{number}": keys, f"values{number}": values}
        return memory

    def start(self, rows: Tensor, length: Tensor) -> State:
        """Returns room for the keys and values of `length` tokens of each hypothesis."""
        config = self.config
        shape = (rows, config.heads, length, config.units // config.heads)
        names = [f"{kind}{n}" for n in range(config.decoder_layers) for kind in ("keys", "values")]
        return {name: ops.zeros(shape, self.compute_dtype) for name in names}

    def step(self, memory: State, state: State, token_ids: Tensor, position: Tensor) -> Step:
        """Reads one token into its place; `state` is as long as the longest translation."""
        length = ops.shape(state["keys0"])[2]
        places = ops.arange(length, dtype="int32")
        here = ops.reshape(places == position, (1, 1, -1, 1))

        def write(past: Tensor, new: Tensor) -> Tensor:
            return ops.where(here, new, past)

        bias = ops.reshape(padding_bias(places <= position), (1, 1, 1, -1))
        return self._step(memory, state, token_ids, position, write, bias)

    def growing_step(
        self, memory: State, state: State, token_ids: Tensor, position: Tensor
    ) -> Step:
        """Reads one token to the end of `state`, which holds just the tokens before it."""

        def write(past: Tensor, new: Tensor) -> Tensor:
            return ops.concatenate([past, new], axis=2)

        return self._step(memory, state, token_ids, position, write, ops.zeros((1, 1, 1, 1)))

    def get_config(self) -> dict[str, Any]:
        """Returns what rebuilds the network."""
        return {"config": asdict(self.config), "vocabulary_size": self.vocabulary_size}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Rebuilds a network from what `get_config` returned."""
        return cls(TransformerConfig(**config["config"]), config["vocabulary_size"])

    def _step(
        self,
        memory: State,
        state: State,
        token_ids: Tensor,
        position: Tensor,
        write: Write,
        bias: Tensor,
    ) -> Step:
        waves = _waves(ops.reshape(position, (1,)), self.config.units)
        x = self._embed(ops.expand_dims(token_ids, 1), waves)  # (N B, 1, units)
        following: State = {}
        weights = None
        for n, layer in enumerate(self.decoder):
            x, (keys, values), weights = layer.step(
                x,
                (state[f"keys{n}"], state[f"values{n}"]),
                write,
                bias,
                (memory[f"keys{n}"], memory[f"values{n}"]),
                memory["bias"],
            )
            following |= {f"keys{n}": keys, f"values{n}": values}
        x = self.decoder_norm(x)
        logits = self.embedding(x, reverse=True)[:, 0]
        return Step(logits, following, ops.mean(weights, axis=1))

    def _decode(self, memory: State, target_in: Tensor, training: bool) -> tuple[Tensor, Tensor]:
        steps = ops.shape(target_in)[1]
        bias = causal_bias(steps)
        x = self._embed(target_in, positions(steps, self.config.units))
        x = self.dropout_layer(x, training=training)
        weights = None
        for n, layer in enumerate(self.decoder):
            source = (memory[f"keys{n}"], memory[f"values{n}"])
            x, weights = layer(x, bias, source, memory["bias"], training=training)
        return self.decoder_norm(x), weights

    def _embed(self, token_ids: Tensor, waves: Tensor) -> Tensor:
        """Scales the vectors by sqrt(d_model), section 3.4, and adds the positions' waves."""
        x = self.embedding(token_ids) * math.sqrt(self.config.units)
        return x + ops.cast(waves, x.dtype)


def positions(count: Tensor, units: int) -> Tensor:
    """Returns the sine and cosine encodings of positions 0 to count - 1, float32 [count, units].

    Source: Vaswani et al. 2017, section 3.5; sines and cosines in halves instead of by turns.
    """
    return _waves(ops.arange(count, dtype="int32"), units)


def _waves(places: Tensor, units: int) -> Tensor:
    """(T,) -> float32 (T, units)."""
    half = units // 2
    exponents = ops.arange(half, dtype="float32") / half
    rates = ops.exp(-math.log(LONGEST_WAVE) * exponents)  # (units / 2,)
    angles = ops.expand_dims(ops.cast(places, "float32"), 1) * rates
    return ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)
