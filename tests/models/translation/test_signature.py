import numpy as np
import pytest
import tensorflow as tf

from models.common.config import save_config
from models.common.run_folder import RunFolder
from models.common.weights import save_float16
from models.translation.decoding import greedy_search, length_limits
from models.translation.predict import source_weights
from models.translation.signature import load_model, make_module
from protocol.contracts import TRANSLATION
from protocol.errors import InvalidRequestError
from protocol.subwords import END_ID, PADDING_ID
from tests.models.translation.untrained import CONFIGS, TEXTS, make_model

BLANK = [TEXTS.index(""), TEXTS.index(" \t\n ")]
TOO_LONG = 6


@pytest.fixture(scope="module", params=list(CONFIGS))
def model(request, tmp_path_factory):
    return make_model(request.param, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def module(model):
    return make_module(model)


def batch(texts):
    encoded = [text if isinstance(text, bytes) else text.encode() for text in texts]
    values = np.empty(len(encoded), object)
    values[:] = encoded
    return values


def ask(model, texts=TEXTS, **asked):
    scalars = {name: np.array(value, np.int32) for name, value in asked.items()}
    return model.run_signature({"text": batch(texts), **scalars})


def call(module, signature, values, **asked):
    """Calls a function of the module as TensorFlow Serving would, with the defaults filled in."""
    search = {"beam_width": 2, "max_length": 48, "alternatives": 0} | asked
    spec = TRANSLATION.signature(signature)
    scalars = [tf.constant(search[tensor.name]) for tensor in spec.inputs if tensor.optional]
    dtype = tf.string if signature != "tensors" else tf.int32
    found = getattr(module, signature)(tf.constant(values, dtype), *scalars)
    return {name: value.numpy() for name, value in found.items()}


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        if value.dtype == np.float32:
            np.testing.assert_allclose(found[name], value, atol=1e-4, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_answers_have_the_promised_form(model):
    found = ask(model)
    rows = len(TEXTS)
    assert {name: (value.dtype.kind, value.shape) for name, value in found.items()} == {
        "translation": ("O", (rows,)),
        "score": ("f", (rows,)),
        "alternatives": ("O", (rows, 2)),
        "alternative_scores": ("f", (rows, 2)),
        "truncated": ("b", (rows,)),
    }
    assert all(isinstance(text, bytes) for text in found["alternatives"].flat)
    np.testing.assert_array_equal(found["alternatives"][:, 0], found["translation"])
    np.testing.assert_array_equal(found["alternative_scores"][:, 0], found["score"])
    assert len(set(found["translation"])) > 4


def test_odd_texts_have_defined_answers(model):
    found = ask(model)
    assert np.flatnonzero(found["truncated"]).tolist() == [TOO_LONG]
    for row in BLANK:
        assert found["alternatives"][row].tolist() == [b"", b""]
        assert found["alternative_scores"][row].tolist() == [0, 0]
    others = np.delete(found["score"], BLANK)
    assert (others < 0).all()
    assert np.isfinite(others).all()


def test_alternatives_are_as_many_as_asked_for(model):
    five, two = ask(model, beam_width=5), ask(model, beam_width=5, alternatives=2)
    np.testing.assert_array_equal(two["alternatives"], five["alternatives"][:, :2])
    np.testing.assert_array_equal(two["alternative_scores"], five["alternative_scores"][:, :2])
    assert any(len(set(row)) == 5 for row in five["alternatives"])


def test_a_beam_of_one_is_greedy(model, module):
    """END may be the second best continuation: a beam that considers two is not greedy."""
    ids = model.tokenizer.encode_batch(TEXTS[:2]).token_ids
    limits = length_limits(ids, model.config.decoding, 48)
    expected = greedy_search(model.network, ids, limits, model.config.decoding.length_penalty)
    texts = [model.tokenizer.decode(row[0]) for row in np.asarray(expected.token_ids)]
    for found in (
        ask(model, TEXTS[:2], beam_width=1),
        call(module, "serving_default", batch(TEXTS[:2]), beam_width=1),
    ):
        assert [text.decode() for text in found["translation"]] == texts
        np.testing.assert_allclose(found["alternative_scores"], expected.scores, atol=1e-4)


@pytest.mark.parametrize("asked", [{}, {"beam_width": 1}, {"beam_width": 4, "alternatives": 3}])
def test_graph_answers_as_keras(model, module, asked):
    expected = ask(model, **asked)
    assert_same(call(module, "serving_default", batch(TEXTS), **asked), expected)


def test_a_short_limit_cuts_translations(model, module):
    found = call(module, "serving_default", batch(TEXTS), max_length=3)
    assert_same(found, ask(model, max_length=3))
    ids = call(module, "tensors", model.tokenizer.encode_batch(TEXTS).token_ids, max_length=3)
    assert ids["translation_ids"].shape == (len(TEXTS), 2, 3)


@pytest.mark.parametrize("width", [1, 3])
def test_text_is_answered_alike_alone_and_in_company(module, width):
    together = call(module, "serving_default", batch(TEXTS), beam_width=width)
    for row, text in enumerate(TEXTS):
        alone = call(module, "serving_default", batch([text]), beam_width=width)
        assert_same(alone, {name: value[row : row + 1] for name, value in together.items()})


def test_attention_is_that_of_the_translation(model, module):
    expected = ask(model)
    found = call(module, "attention", batch(TEXTS))
    assert_same(
        {name: found[name] for name in ("translation", "score", "truncated")},
        {name: expected[name] for name in ("translation", "score", "truncated")},
    )
    rows, steps, tokens = found["attention"].shape
    assert found["target_tokens"].shape == (rows, steps)
    assert found["source_tokens"].shape == (rows, tokens)
    for row, text in enumerate(TEXTS):
        source = model.tokenizer.encode(text).ids
        shown = found["target_tokens"][row]
        length = np.flatnonzero(shown == b"</s>")[0] + 1
        assert "".join(t.decode() for t in shown[: length - 1]).replace("\u2581", " ").strip() == (
            found["translation"][row].decode()
        )
        assert [t.decode() for t in found["source_tokens"][row] if t] == (
            model.tokenizer.pieces_of(source)
        )
        weights = found["attention"][row]
        assert not weights[length:].any()
        assert not weights[:, len(source) :].any()
        ids = {piece: n for n, piece in enumerate(["", "", "", "", *model.tokenizer.pieces])}
        target = [ids[token.decode()] for token in shown[: length - 1]]
        again = source_weights(model.network, source, target)
        np.testing.assert_allclose(weights[:length, : len(source)], again, atol=1e-5)
        np.testing.assert_allclose(weights[:length].sum(axis=1), 1, rtol=1e-5)


def test_tokens_answer_as_texts(model, module):
    texts = [text for text in TEXTS if text.strip()]
    expected = call(module, "serving_default", batch(texts), beam_width=3, alternatives=2)
    ids = model.tokenizer.encode_batch(texts).token_ids
    wider = np.pad(ids, ((0, 0), (0, 3)))
    found = call(module, "tensors", wider, beam_width=3, alternatives=2)
    np.testing.assert_allclose(found["scores"], expected["alternative_scores"], atol=1e-5)
    assert found["translation_ids"].shape[:2] == (len(texts), 2)
    assert found["translation_ids"][..., -1].any()
    for row, kept in zip(found["translation_ids"], expected["alternatives"], strict=True):
        assert [model.tokenizer.decode(each).encode() for each in row] == kept.tolist()
        for each in row:
            used = each[each != PADDING_ID]
            assert not each[len(used) :].any()
            assert END_ID not in used[:-1]


def test_nothing_has_an_empty_answer(module):
    found = call(module, "serving_default", batch([]))
    assert found["alternatives"].shape == found["alternative_scores"].shape == (0, 2)
    assert found["translation"].shape == found["truncated"].shape == (0,)
    assert call(module, "attention", batch([]))["attention"].shape == (0, 1, 1)
    for shape in [(0, 0), (0, 4), (3, 0), (3, 4)]:
        found = call(module, "tensors", np.zeros(shape, np.int32))
        assert found["translation_ids"].shape == (shape[0], 2, 0)
        assert found["scores"].tolist() == [[0, 0]] * shape[0]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"beam_width": 0}, "beam_width must be 1 to 16"),
        ({"beam_width": 17}, "beam_width must be 1 to 16"),
        ({"max_length": 0}, "max_length must be 1 to 48"),
        ({"max_length": 49}, "max_length must be 1 to 48"),
        ({"alternatives": -1}, "alternatives must be 0 to 2"),
        ({"beam_width": 4, "alternatives": 5}, "alternatives must be 0 to 4"),
    ],
)
def test_what_is_out_of_range_is_named(model, module, asked, message):
    value = list(asked.values())[-1]
    with pytest.raises(InvalidRequestError, match=f"{message}, got {value}"):
        ask(model, **asked)
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{message}, got {value}"):
        call(module, "serving_default", batch(TEXTS), **asked)


def test_tokens_that_do_not_exist_are_refused(model, module):
    size, longest = model.tokenizer.vocabulary_size, model.tokenizer.max_tokens
    for ids, message in (
        ([[5, size, 3]], "token_ids must be 0 to"),
        ([[5, -1, 3]], "token_ids must be 0 to"),
        ([[5] * longest + [3]], "tokens in a row must be 0 to"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            call(module, "tensors", np.array(ids, np.int32))


def test_shipped_form_is_loaded(model, tmp_path):
    shipped = RunFolder(tmp_path)
    save_float16(model.network, shipped.float16_weights)
    save_config(model.config, shipped.config)
    model.tokenizer.save(shipped.assets)
    shipped.write_details(dict(model.details))
    loaded = load_model(tmp_path)
    for ours, theirs in zip(model.network.weights, loaded.network.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6)
    assert (ask(loaded, TEXTS[:2])["score"] < 0).all()


def test_a_trained_run_is_loaded(tiny_translation_run):
    model = load_model(tiny_translation_run)
    found = ask(model, ["the red house", "the blue door and the grey lamp"])
    assert found["translation"].tolist() == [
        b"la maison rouge",
        b"la porte bleue et la lampe grise",
    ]


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        load_model(tmp_path)
