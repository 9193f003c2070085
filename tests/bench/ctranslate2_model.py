"""Our Transformer in CTranslate2: a second engine, written by others, for the same weights.

It is the yardstick of `make bench MODEL=translation`, and an independent check of the network.

Source: https://github.com/OpenNMT/CTranslate2; its specification of a Transformer names the
weights as `ctranslate2.specs.TransformerSpec` does.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ctranslate2
import numpy as np
from ctranslate2.specs import TransformerSpec
from keras import ops

from models.translation.decoding import UNWRITTEN
from models.translation.masks import HIDDEN
from models.translation.signature import TranslationModel
from models.translation.transformer import (
    DecoderLayer,
    EncoderLayer,
    FeedForward,
    MultiHeadAttention,
    Transformer,
    positions,
)
from protocol.subwords import END_ID, START_ID, UNKNOWN_ID

# CTranslate2 knows tokens as text; the padding's text is empty in ours.
PADDING_TEXT = "<blank>"


class Found(NamedTuple):
    """Translations of one source, best first: token ids without END, and log-probabilities."""

    token_ids: list[list[int]]
    scores: list[float]


class CTranslate2Transformer:
    """Searches as our engines do; only the length penalty is another.

    It divides log-probabilities by length^alpha, ours by ((5 + length) / 6)^alpha.

    Args:
        folder: what `convert` wrote.
        tokens: the vocabulary's, from `vocabulary`.
        threads: cores that one call uses.
        compute_type: `float32`, `int8` or another of CTranslate2's.
    """

    def __init__(
        self, folder: Path, tokens: Sequence[str], threads: int = 1, compute_type: str = "float32"
    ) -> None:
        self._tokens = list(tokens)
        self._ids = {token: index for index, token in enumerate(tokens)}
        self._translator = ctranslate2.Translator(
            str(folder),
            device="cpu",
            inter_threads=1,
            intra_threads=threads,
            compute_type=compute_type,
        )

    def translate(
        self,
        sources: Sequence[Sequence[int]],
        beam_width: int,
        length_penalty: float,
        max_length: int,
    ) -> list[Found]:
        """Translates token ids that end with END."""
        results = self._translator.translate_batch(
            [[self._tokens[token] for token in source] for source in sources],
            beam_size=beam_width,
            num_hypotheses=beam_width,
            length_penalty=length_penalty,
            max_decoding_length=max_length,
            return_scores=True,
        )
        return [
            Found([[self._ids[t] for t in tokens] for tokens in each.hypotheses], each.scores)
            for each in results
        ]


def vocabulary(model: TranslationModel) -> list[str]:
    """Returns the text of every token id."""
    pieces = list(model.tokenizer.pieces_of(range(model.tokenizer.vocabulary_size)))
    return [PADDING_TEXT, *pieces[1:]]


def convert(model: TranslationModel, folder: Path) -> None:
    """Writes a model whose network is a Transformer as a CTranslate2 model, float32."""
    network = model.network
    config = network.config
    spec = TransformerSpec.from_config(
        (config.encoder_layers, config.decoder_layers), config.heads, pre_norm=True
    )
    _fill_ends(spec.encoder, network, network.encoder_norm, model.tokenizer.max_tokens)
    _fill_ends(spec.decoder, network, network.decoder_norm, model.config.decoding.max_length)
    spec.decoder.projection.weight = _array(network.embedding.embeddings)
    spec.decoder.projection.bias = _never_written(model.tokenizer.vocabulary_size)
    for target, layer in zip(spec.encoder.layer, network.encoder, strict=True):
        _fill_encoder_layer(target, layer)
    for target, layer in zip(spec.decoder.layer, network.decoder, strict=True):
        _fill_decoder_layer(target, layer)
    tokens = vocabulary(model)
    spec.register_source_vocabulary(tokens)
    spec.register_target_vocabulary(tokens)
    spec.config.layer_norm_epsilon = network.encoder_norm.epsilon
    spec.config.unk_token = tokens[UNKNOWN_ID]
    spec.config.bos_token = spec.config.decoder_start_token = tokens[START_ID]
    spec.config.eos_token = tokens[END_ID]
    spec.validate()
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))


def _never_written(size: int) -> np.ndarray:
    """Returns what keeps tokens out of translations that our search never writes either."""
    bias = np.zeros(size, np.float32)
    bias[list(UNWRITTEN)] = HIDDEN
    return bias


def _fill_ends(spec: Any, network: Transformer, norm: Any, length: int) -> None:
    """Fills what lies before and after the layers."""
    embeddings = spec.embeddings[0] if isinstance(spec.embeddings, list) else spec.embeddings
    embeddings.weight = _array(network.embedding.embeddings)
    spec.position_encodings.encodings = ops.convert_to_numpy(
        positions(length + 1, network.config.units)
    )
    _fill_norm(spec.layer_norm, norm)


def _fill_encoder_layer(spec: Any, layer: EncoderLayer) -> None:
    _fill_self_attention(spec.self_attention, layer.attention, layer.attention_norm)
    _fill_feedforward(spec.ffn, layer.feedforward, layer.feedforward_norm)


def _fill_decoder_layer(spec: Any, layer: DecoderLayer) -> None:
    own, source, feedforward = layer.norms
    _fill_self_attention(spec.self_attention, layer.attention, own)
    attention = layer.source_attention
    _fill_norm(spec.attention.layer_norm, source)
    _fill_linear(spec.attention.linear[0], attention.query)
    _fill_linear(spec.attention.linear[1], attention.key, attention.value)
    _fill_linear(spec.attention.linear[2], attention.output_map)
    _fill_feedforward(spec.ffn, layer.feedforward, feedforward)


def _fill_self_attention(spec: Any, attention: MultiHeadAttention, norm: Any) -> None:
    _fill_norm(spec.layer_norm, norm)
    _fill_linear(spec.linear[0], attention.query, attention.key, attention.value)
    _fill_linear(spec.linear[1], attention.output_map)


def _fill_feedforward(spec: Any, feedforward: FeedForward, norm: Any) -> None:
    _fill_norm(spec.layer_norm, norm)
    _fill_linear(spec.linear_0, feedforward.inner)
    _fill_linear(spec.linear_1, feedforward.outer)


def _fill_norm(spec: Any, norm: Any) -> None:
    spec.gamma, spec.beta = _array(norm.gamma), _array(norm.beta)


def _fill_linear(spec: Any, *layers: Any) -> None:
    """Joins the maps of several layers; CTranslate2 keeps matrices as [outputs, inputs]."""
    spec.weight = np.concatenate([_array(layer.kernel).T for layer in layers])
    spec.bias = np.concatenate([_array(layer.bias) for layer in layers])


def _array(weight: Any) -> np.ndarray:
    return np.ascontiguousarray(ops.convert_to_numpy(weight), dtype=np.float32)
