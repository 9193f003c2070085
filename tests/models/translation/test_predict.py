import numpy as np
import pytest

from models.translation.config import TINY
from models.translation.data import EncodedPair
from models.translation.losses import token_losses
from models.translation.network import build_network
from models.translation.predict import (
    Searcher,
    mean_loss,
    padded,
    source_weights,
    until_end,
)

SOURCES = [[5, 6, 7, 8, 9, 3], [3], [9, 3], [7, 7, 7, 3], [5, 6, 7, 8, 9, 10, 11, 12, 13, 3]]


@pytest.fixture(scope="module")
def network():
    network = build_network(TINY, 30)
    random = np.random.default_rng(1)
    network.set_weights([random.normal(0, 0.4, w.shape) for w in network.get_weights()])
    return network


@pytest.mark.parametrize("width", [1, 3])
def test_a_text_is_translated_alike_alone_and_in_company(network, width):
    searcher = Searcher(network, TINY.decoding, width)
    together = searcher(SOURCES)
    for source, found in zip(SOURCES, together, strict=True):
        (alone,) = searcher([source])
        assert alone.token_ids == found.token_ids
        np.testing.assert_allclose(alone.scores, found.scores, atol=1e-4)
        assert len(found.token_ids) == width


def test_no_texts_have_no_translations(network):
    assert Searcher(network, TINY.decoding)([]) == []


def test_rows_are_padded_to_a_multiple_of_eight():
    assert padded(SOURCES[:2]).shape == (2, 8)
    assert padded(SOURCES).shape == (5, 16)
    assert padded(SOURCES)[1].tolist() == [3] + [0] * 15


@pytest.mark.parametrize(
    ("ids", "kept"), [([5, 6, 3, 0], [5, 6]), ([5, 0, 0], [5]), ([5, 6], [5, 6]), ([3], [])]
)
def test_ids_end_with_end_or_padding(ids, kept):
    assert until_end(ids) == kept


def test_attention_of_one_translation(network):
    weights = source_weights(network, SOURCES[0], [4, 5])
    assert weights.shape == (3, 6)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)


def test_mean_loss_is_the_mean_over_all_tokens(network):
    pairs = [
        EncodedPair(np.array(source, np.int32), np.array(target, np.int32))
        for source, target in [([5, 3], [6, 7, 3]), ([5, 6, 7, 3], [8, 3]), ([9, 3], [3])]
    ]
    total = tokens = 0
    for pair in pairs:
        before = np.array([[2, *pair.target_ids[:-1]]], np.int32)
        inputs = {"source_ids": pair.source_ids[None], "target_in": before}
        losses = token_losses(pair.target_ids[None], network(inputs)["logits"])
        total += float(np.sum(losses))
        tokens += len(pair.target_ids)
    assert mean_loss(network, pairs) == pytest.approx(total / tokens, rel=1e-4)
