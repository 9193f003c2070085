import keras
import numpy as np
import pytest

from models.translation.attention import AdditiveAttention, AttentionTranslator
from models.translation.network import build_network
from models.translation.transformer import MultiHeadAttention, Transformer, positions
from protocol.subwords import START_ID
from tests.models.translation.untrained import CONFIGS, make_network

V = 30
SOURCES = np.array([[5, 6, 7, 8, 9, 3], [10, 11, 3, 0, 0, 0], [3, 0, 0, 0, 0, 0]], np.int32)
TARGETS = np.array(
    [[START_ID, 4, 9, 9, 12], [START_ID, 20, 21, 3, 0], [START_ID, 3, 0, 0, 0]], np.int32
)


@pytest.fixture(scope="module", params=list(CONFIGS))
def network(request):
    return make_network(request.param, V)


def logits_of(network, sources, targets):
    inputs = {"source_ids": sources, "target_in": targets}
    return np.asarray(network(inputs, training=False)["logits"])


def test_configuration_chooses_the_network():
    assert isinstance(build_network(CONFIGS["attention"], V), AttentionTranslator)
    assert isinstance(build_network(CONFIGS["transformer"], V), Transformer)


def test_outputs_have_the_stated_shapes(network):
    assert logits_of(network, SOURCES, TARGETS).shape == (3, 5, V)
    weights = np.asarray(network.source_weights(SOURCES, TARGETS))
    assert weights.shape == (3, 5, 6)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-5)
    assert not weights[:, :, :][SOURCES[:, None].repeat(5, axis=1) == 0].any()


def test_padding_changes_nothing(network):
    expected = logits_of(network, SOURCES, TARGETS)
    wider = np.pad(SOURCES, ((0, 0), (0, 7)))
    longer = np.pad(TARGETS, ((0, 0), (0, 4)))
    found = logits_of(network, wider, longer)[:, :5]
    np.testing.assert_allclose(found, expected, atol=2e-5)
    alone = logits_of(network, SOURCES[1:2, :3], TARGETS[1:2])
    np.testing.assert_allclose(alone[0], expected[1], atol=2e-5)


def test_no_token_sees_those_after_it(network):
    changed = TARGETS.copy()
    changed[:, 3:] = 17
    before = logits_of(network, SOURCES, TARGETS)[:, :3]
    np.testing.assert_allclose(logits_of(network, SOURCES, changed)[:, :3], before, atol=1e-5)


def test_feedback_is_what_differs_between_the_two_variants():
    other = TARGETS.copy()
    other[:, 1:] = 17
    for kind, is_same in (("attention", False), ("attention without feedback", True)):
        network = make_network(kind, V)
        a, b = (logits_of(network, SOURCES, targets) for targets in (TARGETS, other))
        assert np.allclose(a, b) == is_same


@pytest.mark.parametrize("kind", ["step", "growing_step"])
def test_steps_predict_as_whole_targets_do(network, kind):
    """Two hypotheses for each source, the second of which reads the target of another row."""
    rows, length = TARGETS.shape
    both = np.stack([TARGETS, TARGETS[::-1]], axis=1).reshape(2 * rows, length)  # (N B, T)
    sources = SOURCES.repeat(2, axis=0)
    expected = logits_of(network, sources, both)
    weights = np.asarray(network.source_weights(sources, both)).reshape(rows, 2, length, -1)
    memory = network.encode(SOURCES)
    state = network.start(2 * rows, length if kind == "step" else 0)
    for position in range(length):
        found = getattr(network, kind)(memory, state, both[:, position], position)
        state = found.state
        np.testing.assert_allclose(found.logits, expected[:, position], atol=5e-5)
        np.testing.assert_allclose(found.weights, weights[:, :, position], atol=1e-5)


def test_network_is_rebuilt_from_its_file(network, tmp_path):
    expected = logits_of(network, SOURCES, TARGETS)
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    assert loaded.config == network.config
    np.testing.assert_allclose(logits_of(loaded, SOURCES, TARGETS), expected, atol=1e-6)


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_weights_have_names_of_their_own_that_stay(kind):
    """Shipped weights are stored by name, and loaded into the second network of a process too."""
    first, second = (
        [weight.path for weight in build_network(CONFIGS[kind], V).weights] for _ in range(2)
    )
    assert first == second
    assert len(set(first)) == len(first)


def test_additive_attention_is_a_small_network_on_the_concatenation():
    """e = v^T tanh(W [s; a] + b), with W in one piece, for each pair of states."""
    layer = AdditiveAttention(units=5, query_units=3, state_units=4)
    layer.build()
    random = np.random.default_rng(0)
    layer.set_weights([random.normal(size=w.shape) for w in layer.get_weights()])
    queries, states = random.normal(size=(2, 3, 3)), random.normal(size=(2, 6, 4))
    hidden = np.array([False, False, False, False, True, True])
    bias = np.where(hidden, -1e4, 0.0)[None, None].repeat(2, axis=0)
    context, weights = layer(queries, layer.keys(states), states, bias)

    by_query, by_state, b, v = (np.asarray(w) for w in layer.get_weights())
    both = np.concatenate([by_query, by_state])  # (3 + 4, 5)
    for row in range(2):
        for query in range(3):
            pairs = [np.concatenate([queries[row, query], state]) for state in states[row]]
            energies = np.tanh(np.stack(pairs) @ both + b) @ v[:, 0]
            shares = np.exp(energies) * ~hidden
            shares /= shares.sum()
            np.testing.assert_allclose(weights[row, query], shares, atol=1e-6)
            np.testing.assert_allclose(context[row, query], shares @ states[row], atol=1e-5)


def test_multi_head_attention_equals_keras_own():
    ours, official = MultiHeadAttention(8, 2), keras.layers.MultiHeadAttention(2, 4)
    ours.build()
    random = np.random.default_rng(0)
    x, source = random.normal(size=(2, 3, 8)), random.normal(size=(2, 5, 8))
    official(x, source)
    ours.set_weights([random.normal(size=w.shape) for w in ours.get_weights()])
    official.set_weights(
        [
            w.reshape(o.shape)
            for w, o in zip(ours.get_weights(), official.get_weights(), strict=True)
        ]
    )
    seen = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)
    bias = np.where(seen, 0.0, -1e4)[:, None, None]
    found, weights = ours(x, *ours.keys_values(source), bias)
    expected, shares = official(
        x, source, attention_mask=seen[:, None].repeat(3, axis=1), return_attention_scores=True
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(weights, shares, atol=1e-6)


def test_positions_by_hand():
    """PE(pos, i) = sin or cos (pos / 10000^(2 i / d_model)), d_model = 4."""
    expected = [
        [np.sin(p), np.sin(p / 100), np.cos(p), np.cos(p / 100)] for p in (0.0, 1.0, 2.0, 3.0)
    ]
    np.testing.assert_allclose(positions(4, 4), expected, atol=1e-6)
