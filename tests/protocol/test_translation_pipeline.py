import numpy as np
import pytest

from protocol import translation_pipeline
from protocol.contracts import ATTENTION, SERVING_DEFAULT, TENSORS, check_inputs
from protocol.errors import InvalidRequestError
from protocol.subwords import END_ID, PADDING_ID, START_ID
from protocol.translation_pipeline import (
    AttentionPipeline,
    SearchSettings,
    TextPipeline,
    TranslationPipeline,
    with_end,
    without_padding,
)
from tests.protocol.tiny_translator import (
    MAX_TOKENS,
    PIPELINE,
    SIZE,
    NumpyTranslator,
    make_tokenizer,
    softmax,
)

SETTINGS = SearchSettings.from_json(PIPELINE)
TOKENIZER = make_tokenizer()
KINDS = (TextPipeline, AttentionPipeline, TranslationPipeline)
TEXTS = ("abc", "", "a bc d e f g h a", "hhh", " \n", "abcdefgh abcdefg", "b")


@pytest.fixture
def graph():
    return NumpyTranslator()


def strings(*texts):
    return np.array([text.encode() for text in texts], dtype=object)


def scalars(**values):
    return {name: np.array(value, np.int32) for name, value in values.items()}


def request(kind, texts, **parameters):
    """The inputs of a request for these texts in any of the three signatures."""
    if kind is TranslationPipeline:
        token_ids = TOKENIZER.encode_batch(texts).token_ids
        return {"token_ids": token_ids, **scalars(**parameters)}
    if kind is AttentionPipeline:
        parameters.pop("alternatives", None)
    return {"text": strings(*texts), **scalars(**parameters)}


def answer(graph, kind, *requests):
    """Merges all requests into one run and hands each its rows, as the server does."""
    pipeline = kind(TOKENIZER, SETTINGS)
    for inputs in requests:
        check_inputs(pipeline.spec, inputs)
    items = [pipeline.prepare(inputs) for inputs in requests]
    assert len({item.batch_key for item in items}) == 1
    outputs = pipeline.run(graph, pipeline.merge(items))
    answers, start = [], 0
    for item in items:
        rows = {name: values[start : start + item.rows] for name, values in outputs.items()}
        assert all(len(values) == item.rows for values in rows.values())
        answers.append(pipeline.finish(rows, item))
        assert list(answers[-1]) == [spec.name for spec in pipeline.spec.outputs]
        start += item.rows
    return answers


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == values.dtype, name
        if values.dtype == np.float32:
            np.testing.assert_allclose(found[name], values, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], values, err_msg=name)


def padded_to(values, shape):
    padded = np.full(shape, b"" if values.dtype == object else 0, values.dtype)
    padded[tuple(slice(size) for size in values.shape)] = values
    return padded


# What is answered.


def test_the_first_alternative_is_the_translation(graph):
    (found,) = answer(graph, TextPipeline, request(TextPipeline, TEXTS))
    assert found["alternatives"].shape == found["alternative_scores"].shape == (7, 3)
    assert found["translation"].tolist() == found["alternatives"][:, 0].tolist()
    assert found["score"].tolist() == found["alternative_scores"][:, 0].tolist()
    assert all(isinstance(text, bytes) for text in found["alternatives"].flat)
    for row in (0, 2, 3, 5, 6):
        assert len(set(found["alternatives"][row])) == 3
        assert (found["alternative_scores"][row] < 0).all()


def test_texts_and_token_ids_are_translated_alike(graph):
    (texts,) = answer(graph, TextPipeline, request(TextPipeline, TEXTS))
    (ids,) = answer(graph, TranslationPipeline, request(TranslationPipeline, TEXTS))
    decoded = [[TOKENIZER.decode(row).encode() for row in rows] for rows in ids["translation_ids"]]
    assert texts["alternatives"].tolist() == decoded
    np.testing.assert_array_equal(texts["alternative_scores"], ids["scores"])


def test_translations_end_or_are_cut_at_their_limit(graph):
    (found,) = answer(graph, TranslationPipeline, request(TranslationPipeline, TEXTS))
    ids = found["translation_ids"]
    lengths = (ids != PADDING_ID).sum(axis=-1)
    ended = (ids == END_ID).any(axis=-1)
    limits = SETTINGS.limits(TOKENIZER.encode_batch(TEXTS).token_ids, SETTINGS.max_length)
    assert limits.tolist() == [6, 3, 20, 9, 3, 20, 6]
    blank = np.array([text.isspace() or not text for text in TEXTS])
    assert lengths.max() == ids.shape[-1]
    assert ended.any()
    assert (~ended[~blank]).any()
    for length, end, limit in zip(lengths[~blank], ended[~blank], limits[~blank], strict=True):
        assert (length <= limit).all()
        assert (length[~end] == limit).all()


@pytest.mark.parametrize("kind", KINDS)
def test_blank_texts_are_not_asked_for(graph, kind):
    (found,) = answer(graph, kind, request(kind, ["", " \t\n"]))
    assert graph.encoded == graph.steps == []
    if kind is TranslationPipeline:
        assert found["translation_ids"].shape == (2, 3, 0)
        assert found["scores"].tolist() == [[0.0] * 3] * 2
        return
    assert found["translation"].tolist() == [b"", b""]
    assert found["score"].tolist() == [0.0, 0.0]
    if kind is AttentionPipeline:
        assert found["attention"].tolist() == [[[1.0]]] * 2
        assert found["source_tokens"].tolist() == [[b"</s>"]] * 2
        assert found["target_tokens"].tolist() == [[b"</s>"]] * 2
    else:
        assert found["alternatives"].tolist() == [[b""] * 3] * 2


def test_token_ids_without_any_token(graph):
    inputs = {"token_ids": np.array([[0, 0], [3, 0], [3, 3]], np.int32)}
    (found,) = answer(graph, TranslationPipeline, inputs)
    assert found["translation_ids"].shape == (3, 3, 0)
    assert not found["scores"].any()


@pytest.mark.parametrize("kind", KINDS)
def test_no_texts(graph, kind):
    (found,) = answer(graph, kind, request(kind, [], beam_width=2))
    shapes = {name: values.shape for name, values in found.items()}
    assert (
        shapes
        == {
            TextPipeline: {
                "translation": (0,),
                "score": (0,),
                "alternatives": (0, 2),
                "alternative_scores": (0, 2),
                "truncated": (0,),
            },
            AttentionPipeline: {
                "translation": (0,),
                "score": (0,),
                "attention": (0, 1, 1),
                "source_tokens": (0, 1),
                "target_tokens": (0, 1),
                "truncated": (0,),
            },
            TranslationPipeline: {"translation_ids": (0, 2, 0), "scores": (0, 2)},
        }[kind]
    )
    assert graph.encoded == []


def test_token_ids_without_columns(graph):
    (found,) = answer(graph, TranslationPipeline, {"token_ids": np.zeros((2, 0), np.int32)})
    assert found["translation_ids"].shape == (2, 3, 0)


def test_cut_and_unknown_texts_say_so_or_are_read(graph):
    long = "a " * (MAX_TOKENS + 1)
    inputs = request(TextPipeline, [long, "\u660e\u5929", "a"])
    (found,) = answer(graph, TextPipeline, inputs)
    assert found["truncated"].tolist() == [True, False, False]
    assert found["translation"][1]


# Attention.


def test_each_token_of_the_translation_attends_to_its_source(graph):
    (found,) = answer(graph, AttentionPipeline, request(AttentionPipeline, TEXTS))
    (plain,) = answer(graph, TextPipeline, request(TextPipeline, TEXTS))
    assert found["translation"].tolist() == plain["translation"].tolist()
    np.testing.assert_array_equal(found["score"], plain["score"])
    attention = found["attention"]
    assert attention.shape == (
        7,
        *found["target_tokens"].shape[1:],
        *found["source_tokens"].shape[1:],
    )
    is_target, is_source = found["target_tokens"] != b"", found["source_tokens"] != b""
    np.testing.assert_allclose(attention.sum(axis=2), is_target, atol=1e-6)
    assert not (attention * ~is_source[:, None]).any()
    for row, text in enumerate(TEXTS):
        source = found["source_tokens"][row][is_source[row]].tolist()
        target = found["target_tokens"][row][is_target[row]].tolist()
        assert source == [p.encode() for p in TOKENIZER.pieces_of(TOKENIZER.encode(text).ids)]
        assert target[-1] == b"</s>"
        joined = b"".join(target[:-1]).decode().replace("\u2581", " ").strip()
        assert joined == found["translation"][row].decode()


def test_attention_is_that_of_reading_the_translation(graph):
    text = "abc d"
    (found,) = answer(graph, AttentionPipeline, request(AttentionPipeline, [text, "a" * 9]))
    (plain,) = answer(graph, TranslationPipeline, request(TranslationPipeline, [text]))
    ids = plain["translation_ids"][0, 0]
    source = np.array(TOKENIZER.encode(text).ids, np.float32)
    before = [START_ID, *ids[ids > END_ID]]
    expected = softmax(-np.abs(source - np.array(before, np.float32)[:, None]))
    rows, columns = expected.shape
    np.testing.assert_allclose(found["attention"][0, :rows, :columns], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([[5, 6, 3, 0], [5, 3, 0, 0]], [[5, 6, 3], [5, 3, 0]]),
        ([[5, 6], [5, 3]], [[5, 6, 3], [5, 3, 0]]),
        ([[0, 0]], [[3]]),
        (np.zeros((1, 0), np.int32), [[3]]),
    ],
)
def test_all_translations_are_read_to_their_end(ids, expected):
    found = with_end(np.array(ids, np.int32))
    assert found.tolist() == expected
    assert found.dtype == np.int32


# Batches.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [1, 3])
def test_texts_are_answered_alike_alone_and_in_company(graph, kind, width):
    texts = TEXTS[:5]
    (together,) = answer(graph, kind, request(kind, texts, beam_width=width))
    for row, text in enumerate(texts):
        (alone,) = answer(graph, kind, request(kind, [text], beam_width=width))
        shapes = {name: (1, *values.shape[1:]) for name, values in together.items()}
        padded = {name: padded_to(alone[name], shapes[name]) for name in alone}
        assert_same({name: values[row : row + 1] for name, values in together.items()}, padded)


@pytest.mark.parametrize("kind", KINDS)
def test_merged_requests_get_their_own_answers(graph, kind):
    requests = [request(kind, texts) for texts in (["b", ""], ["abc d ef", "a"], [], ["h"])]
    for inputs, merged in zip(requests, answer(graph, kind, *requests), strict=True):
        (alone,) = answer(graph, kind, inputs)
        assert_same(merged, alone)


@pytest.mark.parametrize("kind", KINDS)
def test_many_texts_take_several_searches_and_keep_their_order(graph, kind, monkeypatch):
    (expected,) = answer(graph, kind, request(kind, TEXTS))
    monkeypatch.setattr(translation_pipeline, "_HYPOTHESES_PER_SEARCH", 7)
    graph.encoded.clear()
    (found,) = answer(graph, kind, request(kind, TEXTS))
    assert graph.encoded == [2, 2, 1]
    assert max(graph.steps[-10:]) <= 6
    assert_same(found, expected)


def test_a_search_ends(graph):
    answer(graph, TextPipeline, request(TextPipeline, TEXTS))
    assert len(graph.encoded) == 1
    assert len(graph.steps) <= SETTINGS.max_length


def test_requests_that_are_alike_share_a_run():
    pipeline = TextPipeline(TOKENIZER, SETTINGS)

    def key(text, **parameters):
        return pipeline.prepare(request(TextPipeline, [text], **parameters)).batch_key

    assert key("a") == key("abc d", beam_width=3, max_length=20) == key("b", alternatives=3)
    others = [key("a", beam_width=2), key("a", max_length=19), key("a", alternatives=1)]
    assert len({key("a"), *others, key("a " * 20)}) == 5


# Parameters.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"beam_width": 0}, "beam_width must be 1 to 16, got 0"),
        ({"beam_width": 17}, "beam_width must be 1 to 16, got 17"),
        ({"max_length": 0}, "max_length must be 1 to 20, got 0"),
        ({"max_length": 21}, "max_length must be 1 to 20, got 21"),
        ({"alternatives": -1}, "alternatives must be 0 to 3, got -1"),
        ({"alternatives": 3, "beam_width": 2}, "alternatives must be 0 to 2, got 3"),
    ],
)
def test_parameters_out_of_range(kind, parameters, message):
    pipeline, inputs = kind(TOKENIZER, SETTINGS), request(kind, ["a"], **parameters)
    if kind is AttentionPipeline and "alternatives" in parameters:
        assert pipeline.prepare(inputs).rows == 1  # its answer is always about one translation
        return
    with pytest.raises(InvalidRequestError, match=message):
        pipeline.prepare(inputs)


def test_fewer_alternatives_are_the_best_of_all(graph):
    (all_,) = answer(graph, TextPipeline, request(TextPipeline, TEXTS))
    (two,) = answer(graph, TextPipeline, request(TextPipeline, TEXTS, alternatives=2))
    assert two["alternatives"].tolist() == all_["alternatives"][:, :2].tolist()
    np.testing.assert_array_equal(two["alternative_scores"], all_["alternative_scores"][:, :2])


@pytest.mark.parametrize("most", [1, 2, 7])
def test_no_translation_is_longer_than_asked(graph, most):
    inputs = request(TranslationPipeline, ["abcdefgh", "a"], max_length=most)
    (found,) = answer(graph, TranslationPipeline, inputs)
    assert found["translation_ids"].shape[-1] <= most
    assert len(graph.steps) <= most


def test_the_widest_beam(graph):
    (found,) = answer(graph, TextPipeline, request(TextPipeline, ["abc", "a"], beam_width=16))
    assert found["alternatives"].shape == (2, 16)


# Token ids.


@pytest.mark.parametrize(("wrong", "got"), [(SIZE, SIZE), (-1, -1)])
def test_token_ids_that_do_not_exist(wrong, got):
    with pytest.raises(InvalidRequestError, match=f"token_ids must be 0 to {SIZE - 1}, got {got}"):
        TranslationPipeline(TOKENIZER, SETTINGS).prepare(
            {"token_ids": np.array([[5, wrong, 3]], np.int32)}
        )


def test_too_many_token_ids(graph):
    token_ids = np.full((1, MAX_TOKENS + 1), 5, np.int32)
    with pytest.raises(
        InvalidRequestError, match="token_ids must have at most 24 tokens in a row, got 25"
    ):
        TranslationPipeline(TOKENIZER, SETTINGS).prepare({"token_ids": token_ids})
    token_ids[:, 5:] = PADDING_ID
    answer(graph, TranslationPipeline, {"token_ids": token_ids})


def test_padding_in_all_rows_is_left_out():
    assert without_padding(np.array([[1, 0, 0], [1, 2, 0]])).shape == (2, 2)
    assert without_padding(np.zeros((2, 3), np.int32)).shape == (2, 1)
    assert without_padding(np.zeros((0, 3), np.int32)).shape == (0, 1)


# Settings.


def test_limits_follow_the_source_up_to_the_largest():
    sources = np.array([[5, 6, 3, 0], [5, 6, 7, 3]], np.int32)
    assert SETTINGS.limits(sources, 20).tolist() == [3 * 1.5 // 1 + 2, 8]
    assert SETTINGS.limits(sources, 7).tolist() == [6, 7]
    assert SETTINGS.limits(sources, 7).dtype == np.int32


@pytest.mark.parametrize("name", sorted(PIPELINE))
def test_settings_must_be_complete(name):
    with pytest.raises(KeyError, match=name):
        SearchSettings.from_json({key: value for key, value in PIPELINE.items() if key != name})


def test_pipelines_stand_for_the_signatures():
    names = [kind(TOKENIZER, SETTINGS).spec.name for kind in KINDS]
    assert names == [SERVING_DEFAULT, ATTENTION, TENSORS]
    needed = TextPipeline(TOKENIZER, SETTINGS).outputs
    assert needed == ("memory_*", "scores", "continuations", "next_seen")
    assert AttentionPipeline(TOKENIZER, SETTINGS).outputs == (*needed, "attention")
