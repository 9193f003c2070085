import keras
import numpy as np
import pytest

from models.sentiment.config import NetworkConfig
from models.sentiment.naive_bayes import hash_bigrams
from models.sentiment.network import (
    AttentionPooling,
    BagOfBigrams,
    MaskedMaxPooling,
    build_network,
)

SIZES = NetworkConfig(
    embedding_units=6, recurrent_units=5, attention_units=4, bigram_buckets=97, dropout=0.0
)


def logits(network, token_ids):
    return np.asarray(network.model(np.asarray(token_ids, np.int32), training=False)["logits"])


@pytest.mark.parametrize("recurrent", ["lstm", "gru"])
@pytest.mark.parametrize("classes", [2, 4])
def test_shapes(recurrent, classes):
    config = NetworkConfig(**{**SIZES.__dict__, "recurrent": recurrent})
    network = build_network(config, 50, classes)
    outputs = network.model(np.ones((3, 7), np.int32))
    assert {name: tuple(v.shape) for name, v in outputs.items()} == dict.fromkeys(
        ("logits", "recurrent_logits", "linear_logits"), (3, classes)
    )


def test_without_linear_part():
    config = NetworkConfig(**{**SIZES.__dict__, "bigram_buckets": 0})
    assert build_network(config, 50, 2).model.output_names == ["logits"]


@pytest.mark.parametrize("recurrent", ["lstm", "gru"])
def test_padding_never_changes_an_answer(recurrent):
    network = build_network(NetworkConfig(**{**SIZES.__dict__, "recurrent": recurrent}), 50, 2)
    network.classify.get_layer("linear").bigram_table.assign(np.random.normal(size=(97, 1)))
    alone = logits(network, [[3, 4, 5]])
    padded = logits(network, [[3, 4, 5, 0, 0, 0, 0, 0], [7, 8, 9, 1, 2, 3, 4, 5]])
    np.testing.assert_allclose(padded[:1], alone, atol=1e-6)


def test_text_without_tokens_has_one_defined_answer():
    network = build_network(SIZES, 50, 2)
    one, many = logits(network, [[0]]), logits(network, np.zeros((1, 30)))
    assert np.isfinite(one).all()
    np.testing.assert_allclose(one, many, atol=1e-6)


def test_halves_around_the_recurrent_layer_make_the_whole():
    network = build_network(SIZES, 50, 2)
    token_ids = keras.ops.array([[3, 4, 5, 6]], "int32")
    states = network.recurrent(network.embed(token_ids), mask=token_ids != 0)
    np.testing.assert_allclose(
        np.asarray(network.classify([token_ids, states])["logits"]), logits(network, token_ids), atol=1e-6
    )


def test_attention_is_a_weighted_mean_of_real_states():
    layer = AttentionPooling(4)
    states = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    is_token = np.array([[True, True, False, False, False], [True] * 5])
    pooled = np.asarray(layer(states, is_token))
    hidden = np.tanh(states @ layer.hidden.kernel.numpy() + layer.hidden.bias.numpy())
    energies = (hidden @ layer.energy.kernel.numpy())[..., 0]
    for row, count in enumerate((2, 5)):
        weights = np.exp(energies[row, :count])
        weights /= weights.sum()
        np.testing.assert_allclose(pooled[row], weights @ states[row, :count], atol=1e-5)


def test_maximum_ignores_padding():
    states = np.array([[[-3.0], [-1.0], [5.0]], [[1.0], [2.0], [3.0]]], np.float32)
    is_token = np.array([[True, True, False], [False] * 3])
    np.testing.assert_array_equal(
        np.asarray(MaskedMaxPooling()(states, is_token)), [[-1.0], [0.0]]
    )


def test_bag_of_bigrams_by_hand():
    layer = BagOfBigrams(10, 97, 1)
    token_ids = np.array([[3, 4, 7, 0, 0]], np.int32)
    layer(token_ids)
    words, pairs = np.arange(10.0)[:, None], np.random.default_rng(0).normal(size=(97, 1))
    layer.word_table.assign(words)
    layer.bigram_table.assign(pairs)
    layer.scales.assign([2.0, 3.0])
    buckets = hash_bigrams(np.array([3, 4, 7]), 97)
    expected = (2.0 * (3 + 4 + 7) + 3.0 * pairs[buckets].sum()) / np.sqrt(3 + 1)
    np.testing.assert_allclose(np.asarray(layer(token_ids)), [[expected]], rtol=1e-5)


def test_largest_ids_hash_as_in_numpy():
    buckets = 1_048_573
    layer = BagOfBigrams(2**15, buckets, 1)
    token_ids = np.array([[2**15 - 1, 2**15 - 1]], np.int32)
    layer(token_ids)
    table = np.zeros((buckets, 1), np.float32)
    table[hash_bigrams(token_ids[0], buckets)] = 1.0
    layer.bigram_table.assign(table)
    np.testing.assert_allclose(np.asarray(layer(token_ids)), [[1 / np.sqrt(3)]], rtol=1e-5)
