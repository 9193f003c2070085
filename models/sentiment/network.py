"""The sentiment network: a recurrent reader with attention beside a linear bag of word pairs.

The recurrent part understands order and composition, the linear part remembers which words and
word pairs decide; their calibrated logits are added (wide and deep: Cheng et al. 2016).
"""

from dataclasses import dataclass

import keras
from keras import layers, ops

from models.sentiment.config import NetworkConfig
from models.sentiment.linear import FIRST_MULTIPLIER, SECOND_MULTIPLIER

PADDING_ID = 0
RECURRENT, LINEAR = "recurrent_logits", "linear_logits"
PARTS = (RECURRENT, LINEAR)


@keras.saving.register_keras_serializable("sentiment")
class AttentionPooling(layers.Layer):
    """Sums the states of a text by learned weights (additive attention).

    1. e[t] = v . tanh(W h[t] + b): one energy for each state, [N, T].
    2. a = softmax of e over the real tokens, [N, T]; padding gets weight 0.
    3. The result is sum over t of a[t] h[t], [N, C]; zeros for a text without tokens.

    Call arguments:
        states: float [N, T, C].
        is_token: bool [N, T], False on padding.

    Source: Bahdanau et al. 2015, equation 5-6 (energies without the decoder state); pooling as in
    Yang et al. 2016, "Hierarchical Attention Networks", equation 5-7.
    """

    def __init__(self, units: int, kernel_regularizer: object = None, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.units = units
        self.hidden = layers.Dense(
            units, activation="tanh", kernel_regularizer=kernel_regularizer, name="hidden"
        )
        self.energy = layers.Dense(1, use_bias=False, name="energy")

    def build(self, states_shape: tuple[int | None, ...]) -> None:
        """Creates the two dense layers for states of the given shape."""
        self.hidden.build(states_shape)
        self.energy.build((*states_shape[:-1], self.units))

    def call(self, states: keras.KerasTensor, is_token: keras.KerasTensor) -> keras.KerasTensor:
        """Pools states [N, T, C] to [N, C]."""
        energies = self.energy(self.hidden(states))[..., 0]  # (N, T)
        weights = ops.softmax(ops.where(is_token, energies, -1e9), axis=-1)
        weights = weights * ops.cast(is_token, weights.dtype)
        return ops.sum(states * weights[..., None], axis=1)

    def compute_mask(self, *_: object) -> None:
        """The result has no time axis, so no mask goes on."""

    def get_config(self) -> dict[str, object]:
        """Returns what re-creates the layer."""
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("sentiment")
class MaskedMaxPooling(layers.Layer):
    """Takes each channel's largest value over the real tokens; zeros for a text without tokens.

    Call arguments:
        states: float [N, T, C].
        is_token: bool [N, T].
    """

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def compute_mask(self, *_: object) -> None:
        """The result has no time axis, so no mask goes on."""

    def call(self, states: keras.KerasTensor, is_token: keras.KerasTensor) -> keras.KerasTensor:
        """Pools states [N, T, C] to [N, C]."""
        largest = ops.max(ops.where(is_token[..., None], states, -1e9), axis=1)
        return ops.where(ops.any(is_token, axis=1, keepdims=True), largest, 0.0)


@keras.saving.register_keras_serializable("sentiment")
class BagOfPairs(layers.Layer):
    """A linear classifier over single words and hashed word pairs.

    logit[c] = (sum_t U[x_t, c] + sum_t B[h(x_t, x_t+1), c]) / sqrt(T + 1). The root keeps long and
    short texts on one scale. The tables do not learn by gradient: `linear.fit_linear` fits them.

    Args:
        words: rows of U, the vocabulary's size.
        buckets: rows of B.
        units: number of logits.

    Call arguments:
        token_ids: int32 [N, T], 0 is padding and only stands at the end.

    Source: Wang and Manning 2012; hashing as in Weinberger et al. 2009.
    """

    def __init__(self, words: int, buckets: int, units: int, **kwargs: object) -> None:
        super().__init__(trainable=False, **kwargs)
        self.words, self.buckets, self.units = words, buckets, units

    def build(self, token_ids_shape: tuple[int | None, ...]) -> None:
        """Creates both tables, empty."""
        self.word_table = self.add_weight(
            shape=(self.words, self.units), initializer="zeros", name="word_table"
        )
        self.pair_table = self.add_weight(
            shape=(self.buckets, self.units), initializer="zeros", name="pair_table"
        )

    def call(self, token_ids: keras.KerasTensor) -> keras.KerasTensor:
        """Maps ids [N, T] to logits [N, units]."""
        is_token = ops.cast(token_ids != PADDING_ID, self.compute_dtype)  # (N, T)
        # One padding column keeps the pair axis from being empty when T is 1.
        following = ops.pad(token_ids[:, 1:], [[0, 0], [0, 1]])  # (N, T)
        is_pair = ops.cast(following != PADDING_ID, self.compute_dtype)
        buckets = ops.mod(
            token_ids * FIRST_MULTIPLIER + following * SECOND_MULTIPLIER, self.buckets
        )
        words = ops.take(self.word_table, token_ids, axis=0) * is_token[..., None]
        pairs = ops.take(self.pair_table, buckets, axis=0) * is_pair[..., None]
        length = ops.sum(is_token, axis=1, keepdims=True)
        return (ops.sum(words, axis=1) + ops.sum(pairs, axis=1)) / ops.sqrt(length + 1.0)

    def get_config(self) -> dict[str, object]:
        """Returns what re-creates the layer."""
        sizes = {"words": self.words, "buckets": self.buckets, "units": self.units}
        return {key: v for key, v in super().get_config().items() if key != "trainable"} | sizes


@keras.saving.register_keras_serializable("sentiment")
class CalibratedSum(layers.Layer):
    """Adds the logits of several parts, each divided by its temperature.

    The temperatures do not learn by gradient: `calibration.fit_temperatures` fits them on dev.

    Call arguments:
        parts: list of float [N, C].

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2.
    """

    def build(self, shapes: list[tuple[int | None, ...]]) -> None:
        """Creates one temperature for each part, 1 at first."""
        self.temperatures = self.add_weight(
            shape=(len(shapes),), initializer="ones", trainable=False, name="temperatures"
        )

    def call(self, parts: list[keras.KerasTensor]) -> keras.KerasTensor:
        """Maps the parts' logits to logits [N, C]."""
        return sum(part / self.temperatures[i] for i, part in enumerate(parts))


@dataclass(frozen=True)
class SentimentNetwork:
    """The network, and the two halves around its recurrent layer.

    Attributes:
        model: token_ids int32 [N, T] -> dict of float [N, classes]: `logits`, the calibrated sum
            that is served, and the logits of each part, `recurrent_logits`, which is what
            training improves, and `linear_logits`.
        embed: token_ids -> embeddings float [N, T, E].
        recurrent: the bidirectional layer; called with a mask inside `model`.
        classify: (token_ids, states float [N, T, 2U]) -> the outputs of `model`. Exporters put
            their own runtime's recurrent operator between `embed` and `classify`.
    """

    model: keras.Model
    embed: keras.Model
    recurrent: layers.Bidirectional
    classify: keras.Model

    @property
    def parts(self) -> tuple[str, ...]:
        """The outputs that `logits` sums, in the order of the temperatures."""
        # Keras sorts a model's output names, so their order there says nothing.
        return tuple(name for name in PARTS if name in self.model.output_names)


def build_network(config: NetworkConfig, vocabulary_size: int, classes: int) -> SentimentNetwork:
    """Builds the network with random weights.

    Args:
        config: sizes and regularisation.
        vocabulary_size: ids in use, padding and unknown included.
        classes: number of labels.
    """
    token_ids = keras.Input((None,), dtype="int32", name="token_ids")
    embed = _embed(config, vocabulary_size)
    recurrent = _recurrent_layer(config)
    classify = _classify(config, vocabulary_size, classes)
    is_token = ops.not_equal(token_ids, PADDING_ID)
    states = recurrent(embed(token_ids), mask=is_token)  # (N, T, 2U)
    states = ops.where(is_token[..., None], states, 0.0)
    # Keras names a model's outputs, in losses and logs, by the layers they come from.
    outputs = {
        name: layers.Identity(name=name)(logits)
        for name, logits in classify([token_ids, states]).items()
    }
    model = keras.Model(token_ids, outputs, name="sentiment")
    return SentimentNetwork(model, embed, recurrent, classify)


def _embed(config: NetworkConfig, vocabulary_size: int) -> keras.Model:
    token_ids = keras.Input((None,), dtype="int32", name="token_ids")
    embeddings = layers.Embedding(
        vocabulary_size, config.embedding_units, trainable=config.train_embeddings, name="embedding"
    )(token_ids)
    embeddings = layers.SpatialDropout1D(config.embedding_dropout)(embeddings)  # (N, T, E)
    return keras.Model(token_ids, embeddings, name="embed")


def _recurrent_layer(config: NetworkConfig) -> layers.Bidirectional:
    cell = {"lstm": layers.LSTM, "gru": layers.GRU}[config.recurrent]
    regularizer = keras.regularizers.L2(config.l2)
    return layers.Bidirectional(
        cell(
            config.recurrent_units,
            return_sequences=True,
            kernel_regularizer=regularizer,
            name=config.recurrent,
        ),
        name="reader",
    )


def _classify(config: NetworkConfig, vocabulary_size: int, classes: int) -> keras.Model:
    token_ids = keras.Input((None,), dtype="int32", name="token_ids")
    states = keras.Input((None, 2 * config.recurrent_units), name="states")
    is_token = ops.not_equal(token_ids, PADDING_ID)
    regularizer = keras.regularizers.L2(config.l2)
    attention = AttentionPooling(config.attention_units, regularizer, name="attention")
    maximum = MaskedMaxPooling(name="maximum")
    pooled = layers.Concatenate()([attention(states, is_token), maximum(states, is_token)])
    pooled = layers.Dropout(config.dropout)(pooled)  # (N, 4U)
    # The first class is the reference: its logit is fixed at 0, the others are learned.
    dense = layers.Dense(classes - 1, kernel_regularizer=regularizer, name="recurrent")
    parts = {RECURRENT: _with_reference(dense(pooled))}
    if config.pair_buckets:
        linear = BagOfPairs(vocabulary_size, config.pair_buckets, classes - 1, name="linear")
        parts[LINEAR] = _with_reference(linear(token_ids))
    logits = CalibratedSum(name="calibration")(list(parts.values()))
    return keras.Model([token_ids, states], {"logits": logits, **parts}, name="classify")


def _with_reference(logits: keras.KerasTensor) -> keras.KerasTensor:
    return ops.pad(logits, [[0, 0], [1, 0]])  # (N, classes)
