import keras
import numpy as np
import pytest

from models.sentiment.config import NetworkConfig
from models.sentiment.linear import LinearSizes, count_features, fit_linear, hash_pairs
from models.sentiment.network import (
    AttentionPooling,
    BagOfPairs,
    CalibratedSum,
    MaskedMaxPooling,
    build_network,
)

SIZES = NetworkConfig(
    embedding_units=6, recurrent_units=5, attention_units=4, pair_buckets=97, dropout=0.0
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
    config = NetworkConfig(**{**SIZES.__dict__, "pair_buckets": 0})
    assert build_network(config, 50, 2).model.output_names == ["logits", "recurrent_logits"]


@pytest.mark.parametrize("recurrent", ["lstm", "gru"])
def test_padding_never_changes_an_answer(recurrent):
    network = build_network(NetworkConfig(**{**SIZES.__dict__, "recurrent": recurrent}), 50, 2)
    network.classify.get_layer("linear").pair_table.assign(np.random.normal(size=(97, 1)))
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
        np.asarray(network.classify([token_ids, states])["logits"]),
        logits(network, token_ids),
        atol=1e-6,
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
    np.testing.assert_array_equal(np.asarray(MaskedMaxPooling()(states, is_token)), [[-1.0], [0.0]])


def test_bag_of_pairs_by_hand():
    layer = BagOfPairs(10, 97, 1)
    token_ids = np.array([[3, 4, 7, 0, 0]], np.int32)
    layer(token_ids)
    words, pairs = np.arange(10.0)[:, None], np.random.default_rng(0).normal(size=(97, 1))
    layer.word_table.assign(words)
    layer.pair_table.assign(pairs)
    buckets = hash_pairs(np.array([3, 4, 7]), 97)
    expected = (3 + 4 + 7 + pairs[buckets].sum()) / np.sqrt(3 + 1)
    np.testing.assert_allclose(np.asarray(layer(token_ids)), [[expected]], rtol=1e-5)


def test_bag_of_pairs_scores_as_it_was_fitted():
    random = np.random.default_rng(0)
    texts = [random.integers(1, 10, n) for n in (1, 2, 9, 5, 30, 4)]
    tables = fit_linear(texts, np.array([0, 1, 0, 1, 0, 1]), 2, LinearSizes(10, 97), 1.0)
    layer = BagOfPairs(10, 97, 1)
    layer.build((None, None))
    layer.word_table.assign(tables.words)
    layer.pair_table.assign(tables.pairs)
    expected = count_features(texts, LinearSizes(10, 97)) @ np.concatenate(
        [tables.words, tables.pairs]
    )
    for text, logit in zip(texts, expected, strict=True):
        found = np.asarray(layer(text[None].astype(np.int32)))[0]
        np.testing.assert_allclose(found, logit, atol=1e-5)


def test_largest_ids_hash_as_in_numpy():
    buckets = 1_048_573
    layer = BagOfPairs(2**15, buckets, 1)
    token_ids = np.array([[2**15 - 1, 2**15 - 1]], np.int32)
    layer(token_ids)
    table = np.zeros((buckets, 1), np.float32)
    table[hash_pairs(token_ids[0], buckets)] = 1.0
    layer.pair_table.assign(table)
    np.testing.assert_allclose(np.asarray(layer(token_ids)), [[1 / np.sqrt(3)]], rtol=1e-5)


def test_calibrated_sum_divides_each_part_by_its_temperature():
    layer = CalibratedSum()
    parts = [keras.ops.array([[1.0, 2.0]]), keras.ops.array([[3.0, 5.0]])]
    np.testing.assert_array_equal(np.asarray(layer(parts)), [[4.0, 7.0]])
    layer.temperatures.assign([2.0, 0.5])
    np.testing.assert_array_equal(np.asarray(layer(parts)), [[6.5, 11.0]])


def test_only_the_recurrent_part_learns_by_gradient():
    network = build_network(SIZES, 50, 2)
    frozen = {w.path for w in network.model.non_trainable_weights}
    assert frozen == {
        "linear/word_table",
        "linear/pair_table",
        "calibration/temperatures",
    }
