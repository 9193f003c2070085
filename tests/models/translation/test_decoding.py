import itertools

import numpy as np
import pytest
from keras import ops

from models.translation.config import DecodingConfig
from models.translation.decoding import (
    IMPOSSIBLE,
    UNWRITTEN,
    beam_search,
    continuations,
    greedy_search,
    length_limits,
    length_penalty,
)
from models.translation.step import Step
from protocol import beam_search as host
from protocol.subwords import END_ID, START_ID
from tests.models.translation.untrained import CONFIGS, make_network

V = 7  # padding, unknown, start, end, and three that can be written besides the end
ALPHA = 0.6
SOURCES = np.array([[4, 3], [5, 3], [6, 3], [5, 3]], np.int32)


class Chain:
    """Each token depends on the two before it and on the source's first; all is in a table."""

    def __init__(self, seed: int) -> None:
        self.table = np.random.default_rng(seed).normal(0, 2, (V, V, V, V)).astype(np.float32)

    def encode(self, source_ids):
        return {"first": source_ids[:, 0]}

    def start(self, rows, length):
        return {"before": ops.full((rows,), START_ID, "int32")}

    def step(self, memory, state, token_ids, position):
        beams = ops.shape(token_ids)[0] // ops.shape(memory["first"])[0]
        first = ops.repeat(memory["first"], beams, axis=0)
        place = (first * V + state["before"]) * V + token_ids
        logits = ops.take(self.table.reshape(-1, V), place, axis=0)
        return Step(logits, {"before": token_ids}, None)

    def log_probabilities(self, first, ids):
        before, last = ([START_ID, START_ID, *ids])[-2:]
        logits = self.table[first, before, last].astype(np.float64)
        logits[list(UNWRITTEN)] = -np.inf
        return logits - np.log(np.exp(logits).sum())

    def ends(self, first, limit):
        """Every way to write at most `limit` tokens: (log-probability, ids) of all."""
        for length in range(limit + 1):
            for words in itertools.product(range(4, V), repeat=length):
                for ids in ([*words, END_ID], list(words)):
                    if len(ids) == limit or (ids and ids[-1] == END_ID and len(ids) < limit):
                        steps = range(len(ids))
                        total = sum(self.log_probabilities(first, ids[:n])[ids[n]] for n in steps)
                        yield total, ids


def penalty(length):
    return ((5 + length) / 6) ** ALPHA


def searched(chain, first, limit, width):
    """The rules of beam search, with lists: the best first, as (score, ids)."""
    alive, finished = [(0.0, [])], []
    for position in range(limit):
        found = [
            (total + gained, [*ids, token])
            for total, ids in alive
            for token, gained in enumerate(chain.log_probabilities(first, ids))
            if token not in UNWRITTEN
        ]
        found = sorted(found, key=lambda each: -each[0])[: 2 * width]
        ended = [(s / penalty(position + 1), ids) for s, ids in found if ids[-1] == END_ID]
        finished = sorted(finished + ended, key=lambda each: -each[0])[:width]
        alive = [each for each in found if each[1][-1] != END_ID][:width]
        if len(finished) == width and alive[0][0] / penalty(limit) <= finished[-1][0]:
            break
    unfinished = [(total / penalty(len(ids)), ids) for total, ids in alive]
    return [*finished, *unfinished][:width]


def rows_of(decoded):
    """Scores and ids without padding, row by row."""
    ids, scores = np.asarray(decoded.token_ids), np.asarray(decoded.scores)
    return [
        [(score, [int(i) for i in each if i]) for score, each in zip(*row, strict=True)]
        for row in zip(scores, ids, strict=True)
    ]


def assert_same(found, expected):
    assert [ids for _, ids in found] == [ids for _, ids in expected]
    scores = [score for score, _ in expected]
    np.testing.assert_allclose([score for score, _ in found], scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_finds_what_trying_everything_finds(seed):
    chain, limit, width = Chain(seed), 4, 64
    limits = np.full(len(SOURCES), limit, np.int32)
    found = rows_of(beam_search(chain, SOURCES, limits, width, ALPHA))
    for source, row in zip(SOURCES, found, strict=True):
        every = list(chain.ends(source[0], limit))
        finished = [(s / penalty(len(ids)), ids) for s, ids in every if ids[-1] == END_ID]
        cut = [(s / penalty(len(ids)), ids) for s, ids in every if ids[-1] != END_ID]
        best = [*sorted(finished, reverse=True), *sorted(cut, reverse=True)]
        assert_same(row, best[:width])


@pytest.mark.parametrize(("seed", "width"), [(0, 2), (1, 2), (2, 3), (3, 4), (4, 5)])
def test_a_narrow_beam_follows_the_rules(seed, width):
    chain, limits = Chain(seed), np.array([9, 3, 6, 1], np.int32)
    found = rows_of(beam_search(chain, SOURCES, limits, width, ALPHA))
    for source, limit, row in zip(SOURCES, limits, found, strict=True):
        expected = searched(chain, source[0], limit, width)
        assert_same(row[: len(expected)], expected)


@pytest.mark.parametrize("seed", range(3))
def test_greedy_takes_the_most_probable_token(seed):
    chain, limits = Chain(seed), np.array([9, 3, 6, 1], np.int32)
    found = rows_of(greedy_search(chain, SOURCES, limits, ALPHA))
    for source, limit, row in zip(SOURCES, limits, found, strict=True):
        total, ids = 0.0, []
        while len(ids) < limit and END_ID not in ids:
            gained = chain.log_probabilities(source[0], ids)
            total, ids = total + gained.max(), [*ids, int(gained.argmax())]
        assert_same(row, [(total / penalty(len(ids)), ids)])


def test_a_row_is_answered_alike_alone_and_in_company():
    chain, limits = Chain(7), np.array([9, 3, 6, 9], np.int32)
    for search in (greedy_search, lambda *given: beam_search(*given[:3], 3, given[3])):
        together = rows_of(search(chain, SOURCES, limits, ALPHA))
        for row in range(len(SOURCES)):
            alone = rows_of(search(chain, SOURCES[row : row + 1], limits[row : row + 1], ALPHA))
            assert_same(alone[0], together[row])


def test_a_row_without_room_stays_empty():
    found = beam_search(Chain(0), SOURCES, np.array([0, 4, 0, 4], np.int32), 2, ALPHA)
    ids = np.asarray(found.token_ids)
    assert not ids[[0, 2]].any()
    assert ids[[1, 3], 0].any(axis=1).all()
    assert np.asarray(found.scores)[0, 0] == 0


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("kind", list(CONFIGS))
def test_the_host_finds_the_same(kind, width):
    """Around the growing step, as ONNX Runtime computes it; greedy where the beam is 1."""
    size = 30
    network = make_network(kind, size)
    sources = np.array([[5, 6, 7, 3, 0], [8, 3, 0, 0, 0], [9, 10, 11, 12, 3]], np.int32)
    limits = np.array([14, 9, 12], np.int32)
    memory, held = network.encode(sources), {"state": network.start(3 * width, 0)}

    def step(token_ids, parents, position, alive):
        past = {name: ops.take(value, parents, axis=0) for name, value in held["state"].items()}
        found = network.growing_step(memory, past, token_ids, position)
        held["state"] = found.state
        best = continuations(alive, found.logits, width)
        places = np.asarray(best.parents) * size + np.asarray(best.tokens)
        return host.Continuations(np.asarray(best.scores), places)

    found = host.beam_search(step, limits, width, size, ALPHA)
    if width == 1:
        expected = greedy_search(network, sources, limits, ALPHA)
    else:
        expected = beam_search(network, sources, limits, width, ALPHA)
    np.testing.assert_array_equal(found.token_ids, expected.token_ids)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4)


def test_continuations_are_the_best_of_all_hypotheses():
    logits = np.random.default_rng(0).normal(size=(2 * 3, V)).astype(np.float32)
    alive = np.array([[-1.0, -2.0, IMPOSSIBLE], [-3.0, -0.5, -0.6]], np.float32)
    found = continuations(alive, logits, 3)
    probabilities = np.exp(logits)
    probabilities[:, list(UNWRITTEN)] = 0
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    for row in range(2):
        every = [
            (alive[row, beam] + np.log(probabilities[3 * row + beam, token]), beam, token)
            for beam in range(3)
            for token in range(3, V)
        ]
        best = sorted(every, reverse=True)[:6]
        np.testing.assert_allclose(found.scores[row], [each[0] for each in best], rtol=1e-5)
        assert np.asarray(found.parents[row]).tolist() == [each[1] for each in best]
        assert np.asarray(found.tokens[row]).tolist() == [each[2] for each in best]


def test_lengths_by_hand():
    sources = np.array([[5, 6, 3, 0], [3, 0, 0, 0], [5, 6, 7, 3]], np.int32)
    config = DecodingConfig(length_factor=1.5, length_allowance=2, max_length=100)
    assert np.asarray(length_limits(sources, config, 100)).tolist() == [6, 3, 8]
    assert np.asarray(length_limits(sources, config, 7)).tolist() == [6, 3, 7]
    np.testing.assert_allclose(length_penalty(np.array([1, 7]), 1.0), [1, 2])
    np.testing.assert_allclose(length_penalty(np.array([7]), 0.5), [2**0.5], rtol=1e-6)
    np.testing.assert_allclose(length_penalty(np.array([7]), 0.0), [1])
