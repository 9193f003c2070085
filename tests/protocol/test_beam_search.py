from dataclasses import replace
from itertools import product

import keras
import numpy as np
import pytest
from keras import ops

from models.translation import decoding
from models.translation.config import NETWORKS, TINY
from models.translation.network import build_network
from protocol.beam_search import Continuations, beam_search, length_penalty
from protocol.subwords import END_ID, FIRST_PIECE_ID, PADDING_ID, START_ID

ALPHA = 0.6
SIZE = 30
PLACES = 4


def limits(*values):
    return np.array(values, np.int32)


def written(ids):
    return [int(token) for token in ids if token != PADDING_ID]


class TableStep:
    """A step by hand: how likely a token is depends on the one before it, its place and the source.

    It keeps what each hypothesis wrote, as the state of a real one would, and refuses to be asked
    about another.
    """

    def __init__(self, tables):
        self.tables = tables  # log-probabilities, (N, PLACES, V, V)
        self.written = [()]
        self.steps = 0

    def __call__(self, token_ids, parents, position, alive):
        rows, width = alive.shape
        assert position == self.steps
        assert token_ids.dtype == parents.dtype == np.int32
        assert (parents // width == np.arange(rows * width) // width).all()
        past = self.written * (rows * width) if position == 0 else self.written
        self.written = [(*past[n], token) for n, token in zip(parents, token_ids, strict=True)]
        self.steps += 1
        source = np.arange(rows).repeat(width)
        total = alive.reshape(-1, 1) + self.tables[source, position % PLACES, token_ids]  # (N B, V)
        total = total.reshape(rows, -1)
        places = np.argsort(-total, axis=1, kind="stable")[:, : 2 * width]
        scores = np.take_along_axis(total, places, axis=1)
        return Continuations(scores.astype(np.float32), places.astype(np.int32))


def random_tables(rows, pieces, seed=1, end=0.0):
    """Log-probabilities of each token after each; only END and pieces are ever written."""
    size = FIRST_PIECE_ID + pieces
    logits = np.random.default_rng(seed).normal(0, 1.5, (rows, PLACES, size, size))
    logits[..., END_ID] += end
    logits[..., :END_ID] = -1e9
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


# The same search inside a graph.


class NetworkStep:
    """One step of a network, outside of any graph."""

    def __init__(self, network, source_ids, width):
        self.network = network
        self.memory = network.encode(source_ids)
        self.state = network.start(len(source_ids) * width, 0)

    def __call__(self, token_ids, parents, position, alive):
        past = {name: ops.take(value, parents, axis=0) for name, value in self.state.items()}
        step = self.network.growing_step(self.memory, past, token_ids, position)
        self.state = step.state
        found = decoding.continuations(alive, step.logits, alive.shape[1])
        places = found.parents * SIZE + found.tokens
        return Continuations(*map(ops.convert_to_numpy, (found.scores, places)))


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    keras.utils.set_random_seed(3)
    network = build_network(replace(TINY, network=request.param), SIZE)
    random = np.random.default_rng(3)
    network.set_weights(
        [w + random.normal(0, 0.3, w.shape).astype(w.dtype) for w in network.get_weights()]
    )
    return network


def mixed_sources():
    random = np.random.default_rng(5)
    sources = np.full((9, 8), PADDING_ID, np.int32)
    for row, length in enumerate((8, 1, 3, 5, 8, 2, 4, 6, 7)):
        sources[row, :length] = random.integers(FIRST_PIECE_ID, SIZE, length)
        sources[row, length - 1] = END_ID
    return sources


@pytest.mark.parametrize("width", [1, 4])
def test_it_finds_what_the_search_inside_a_graph_finds(network, width):
    sources = mixed_sources()
    config = replace(TINY.decoding, length_factor=1.0, length_allowance=2)
    most = ops.convert_to_numpy(decoding.length_limits(sources, config, 9))
    if width == 1:
        expected = decoding.greedy_search(network, sources, most, ALPHA)
    else:
        expected = decoding.beam_search(network, sources, most, width, ALPHA)
    found = beam_search(NetworkStep(network, sources, width), most, width, SIZE, ALPHA)
    np.testing.assert_array_equal(found.token_ids, ops.convert_to_numpy(expected.token_ids))
    np.testing.assert_allclose(found.scores, ops.convert_to_numpy(expected.scores), atol=1e-4)
    assert found.token_ids.dtype == np.int32
    assert found.scores.dtype == np.float32
    assert len({len(written(ids)) for ids in found.token_ids[:, 0]}) > 1


# All hypotheses.


def all_hypotheses(table, limit, pieces):
    """Enumerates what may be written in `limit` tokens: (finished?, score, ids), best first."""
    tokens = range(FIRST_PIECE_ID, FIRST_PIECE_ID + pieces)
    found = []
    for length in range(limit + 1):
        for body in product(tokens, repeat=length):
            finished = length < limit
            ids = (*body, END_ID) if finished else body
            score = sum(
                table[n, a, b] for n, (a, b) in enumerate(zip((START_ID, *ids), ids, strict=False))
            )
            found.append((finished, score / ((5 + len(ids)) / 6) ** ALPHA, list(ids)))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("seed", range(5))
def test_a_beam_as_wide_as_all_hypotheses_finds_them_in_order(seed):
    tables = random_tables(2, pieces=3, seed=seed)
    size, width = tables.shape[-1], 60
    found = beam_search(TableStep(tables), limits(4, 3), width, size, ALPHA)
    for row, (limit, finished) in enumerate([(4, 1 + 3 + 9 + 27), (3, 1 + 3 + 9)]):
        expected = all_hypotheses(tables[row], limit, pieces=3)[:width]
        assert sum(ended for ended, _, _ in expected) == finished
        some = [written(ids) for ids in found.token_ids[row, : len(expected)]]
        assert some == [ids for _, _, ids in expected]
        scores = [score for _, score, _ in expected]
        np.testing.assert_allclose(found.scores[row, : len(expected)], scores, rtol=1e-5)


@pytest.mark.parametrize("width", [2, 3, 8])
def test_a_narrow_beam_is_never_better_than_all_hypotheses(width):
    tables = random_tables(8, pieces=3, seed=9)
    found = beam_search(TableStep(tables), limits(*[4] * 8), width, tables.shape[-1], ALPHA)
    for row, table in enumerate(tables):
        score_of = {tuple(ids): score for _, score, ids in all_hypotheses(table, 4, pieces=3)}
        best = [score_of[tuple(written(ids))] for ids in found.token_ids[row]]
        np.testing.assert_allclose(found.scores[row], best, rtol=1e-5)
        ended = [score for ids, score in zip(found.token_ids[row], best, strict=True) if 3 in ids]
        assert ended == sorted(ended, reverse=True)


# Its parts.


def test_a_beam_of_one_is_greedy():
    tables = random_tables(6, pieces=5, seed=2)
    found = beam_search(TableStep(tables), limits(*[7] * 6), 1, tables.shape[-1], ALPHA)
    for row, table in enumerate(tables):
        ids = [START_ID]
        while len(ids) <= 7 and ids[-1] != END_ID:
            ids.append(int(table[(len(ids) - 1) % PLACES, ids[-1]].argmax()))
        assert written(found.token_ids[row, 0]) == ids[1:]


def test_each_row_keeps_to_its_limit_and_is_alike_alone_and_in_company():
    tables, most = random_tables(5, pieces=6, seed=4, end=-3.0), limits(1, 9, 4, 9, 2)
    together = beam_search(TableStep(tables), most, 3, tables.shape[-1], ALPHA)
    assert together.token_ids.shape == (5, 3, 9)
    for row in range(5):
        alone = beam_search(
            TableStep(tables[row : row + 1]), most[row : row + 1], 3, tables.shape[-1], ALPHA
        )
        np.testing.assert_array_equal(together.token_ids[row, :, : most[row]], alone.token_ids[0])
        assert not together.token_ids[row, :, most[row] :].any()
        np.testing.assert_array_equal(together.scores[row], alone.scores[0])


def test_it_stops_as_soon_as_no_hypothesis_could_win():
    tables = random_tables(3, pieces=3, seed=1, end=8.0)
    step = TableStep(tables)
    found = beam_search(step, limits(100, 100, 100), 2, tables.shape[-1], ALPHA)
    assert step.steps < 10
    assert (found.token_ids[:, 0, 0] == END_ID).all()


def test_it_asks_no_more_than_the_limit_allows():
    tables = random_tables(2, pieces=8, end=-50.0)
    step = TableStep(tables)
    found = beam_search(step, limits(6, 3), 2, tables.shape[-1], ALPHA)
    assert step.steps == 6
    assert [len(written(ids)) for ids in found.token_ids[:, 0]] == [6, 3]
    assert END_ID not in found.token_ids


def test_a_row_of_which_nothing_may_be_written():
    tables = random_tables(2, pieces=3)
    found = beam_search(TableStep(tables), limits(0, 2), 2, tables.shape[-1], ALPHA)
    assert not found.token_ids[0].any()
    assert found.scores[0, 0] == 0
    step = TableStep(tables)
    nothing = beam_search(step, limits(0, 0), 2, tables.shape[-1], ALPHA)
    assert nothing.token_ids.shape == (2, 2, 0)
    assert step.steps == 0


def test_of_equal_hypotheses_the_first_is_kept():
    table = np.full((1, PLACES, 8, 8), -1e9)
    table[..., END_ID:] = np.log(1 / 5)
    found = beam_search(TableStep(table), limits(2), 3, 8, 0.0)
    assert [written(ids) for ids in found.token_ids[0]] == [[3], [4, 3], [5, 3]]


@pytest.mark.parametrize(("length", "expected"), [(1, 1.0), (7, 2**0.6), (0, (5 / 6) ** 0.6)])
def test_length_penalty(length, expected):
    assert length_penalty(length, ALPHA) == pytest.approx(expected)
    assert length_penalty(length, 0.0) == 1.0
