import numpy as np
import pytest

from protocol.contracts import SignatureSpec, TensorSpec
from protocol.errors import InvalidRequestError
from protocol.pipelines import SentimentPipeline, TensorPipeline
from protocol.tokenizer import WordTokenizer

TOKENIZER = WordTokenizer(["good", "bad"], [(r"[\s\v]+", " ")], max_tokens=100, head_tokens=50)


def texts(*items):
    return {"text": np.array([item.encode() for item in items], dtype=object)}


@pytest.fixture(name="sentiment")
def sentiment_fixture():
    return SentimentPipeline(TOKENIZER, ["negative", "positive"])


def good_minus_bad(token_ids):
    """A graph by hand: the share of "good" among good and bad words."""
    good, bad = (token_ids == 2).sum(axis=1), (token_ids == 3).sum(axis=1)
    positive = ((good + 1) / (good + bad + 2)).astype(np.float32)
    return {"probability": np.stack([1 - positive, positive], axis=1)}


def run(pipeline, graph, *items):
    """Merges all requests into one run and hands each its rows, as the server does."""
    outputs = graph(**pipeline.merge(items))
    results, start = [], 0
    for item in items:
        rows = {name: values[start : start + item.rows] for name, values in outputs.items()}
        results.append(pipeline.finish(rows, item))
        start += item.rows
    return results


# Sentiment.


def test_sentiment_from_text_to_label(sentiment):
    prepared = sentiment.prepare(texts("good good", "bad", ""))
    assert prepared.rows == 3
    (result,) = run(sentiment, good_minus_bad, prepared)
    assert list(result) == [spec.name for spec in sentiment.spec.outputs]
    assert result["label"].tolist() == [b"positive", b"negative", b"negative"]
    assert result["label"].dtype == object
    np.testing.assert_allclose(result["probability"][0], [0.25, 0.75])
    assert result["tokens"].tolist() == [2, 1, 0]
    assert result["truncated"].tolist() == [False, False, False]


def test_sentiment_tells_truncation(sentiment):
    (result,) = run(sentiment, good_minus_bad, sentiment.prepare(texts("bad " * 101, "good")))
    assert result["tokens"].tolist() == [101, 1]
    assert result["truncated"].tolist() == [True, False]


def test_merged_requests_get_their_own_answers(sentiment):
    requests = [texts("good"), texts("bad bad good", "good good"), texts("")]
    items = [sentiment.prepare(request) for request in requests]
    assert len({item.batch_key for item in items}) == 1
    together = run(sentiment, good_minus_bad, *items)
    for item, merged in zip(items, together, strict=True):
        (alone,) = run(sentiment, good_minus_bad, item)
        assert merged.keys() == alone.keys()
        for name, values in alone.items():
            np.testing.assert_array_equal(merged[name], values)


def test_merging_pads_to_the_longest(sentiment):
    items = [sentiment.prepare(texts(text)) for text in ("good", "bad bad bad")]
    merged = sentiment.merge(items)["token_ids"]
    np.testing.assert_array_equal(merged, [[2, 0, 0], [3, 3, 3]])
    assert merged.dtype == np.int32


@pytest.mark.parametrize(
    ("tokens", "bucket"), [(0, 16), (1, 16), (16, 16), (17, 32), (32, 32), (33, 64), (100, 128)]
)
def test_texts_of_similar_length_share_a_run(sentiment, tokens, bucket):
    assert sentiment.prepare(texts("good " * tokens)).batch_key == bucket


def test_no_texts(sentiment):
    prepared = sentiment.prepare({"text": np.empty(0, dtype=object)})
    (result,) = run(sentiment, good_minus_bad, prepared)
    assert {name: values.shape for name, values in result.items()} == {
        "label": (0,),
        "probability": (0, 2),
        "tokens": (0,),
        "truncated": (0,),
    }


# Tensors.

PAIR = SignatureSpec(
    "tensors",
    inputs=(TensorSpec("x", "float32", (None, None)), TensorSpec("n", "int32", (None,))),
    outputs=(TensorSpec("y", "float32", (None, None)), TensorSpec("z", "int32", (None,))),
)


def pair(rows, columns):
    x = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
    return {"x": x, "n": np.arange(rows, dtype=np.int32)}


def test_tensors_pass_through():
    pipeline = TensorPipeline(PAIR)
    assert pipeline.outputs == ("y", "z")
    items = [pipeline.prepare(pair(2, 3)), pipeline.prepare(pair(1, 3))]
    assert [item.rows for item in items] == [2, 1]
    first, second = run(pipeline, lambda x, n: {"y": 2 * x, "z": n}, *items)
    np.testing.assert_array_equal(first["y"], [[0, 2, 4], [6, 8, 10]])
    np.testing.assert_array_equal(second["y"], [[0, 2, 4]])
    assert second["z"].tolist() == [0]


def test_only_equal_trailing_sizes_share_a_run():
    keys = [
        TensorPipeline(PAIR).prepare(pair(*size)).batch_key for size in [(1, 3), (5, 3), (1, 4)]
    ]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": np.zeros((2, 1)), "n": np.zeros(3)}, "must have equal 0th-dimension size"),
        ({"x": np.zeros((2, 1)), "n": np.int32(1)}, "must have at least one dimension"),
        ({}, "must have at least one input tensor"),
    ],
)
def test_inputs_without_common_rows(inputs, message):
    with pytest.raises(InvalidRequestError, match=message):
        TensorPipeline(PAIR).prepare({name: np.asarray(array) for name, array in inputs.items()})


LIMITED = SignatureSpec(
    "tensors",
    inputs=(TensorSpec("x", "float32", (None,)), TensorSpec("limit", "float32", (), optional=True)),
    outputs=(TensorSpec("y", "float32", (None,)),),
)


def test_parameters_are_passed_once_and_keep_runs_apart():
    pipeline = TensorPipeline(LIMITED)
    x = np.arange(3, dtype=np.float32)
    low, same, high, none = (
        pipeline.prepare({"x": x, **({"limit": np.float32(limit)} if limit else {})})
        for limit in (1, 1, 2, None)
    )
    assert low.rows == 3
    assert low.batch_key == same.batch_key
    assert len({low.batch_key, high.batch_key, none.batch_key}) == 3
    first, second = run(pipeline, lambda x, limit: {"y": np.minimum(x, limit)}, low, same)
    assert first["y"].tolist() == second["y"].tolist() == [0, 1, 1]


def test_a_run_asks_the_graph_for_the_promised_outputs():
    asked = []

    def graph(tensors, outputs):
        asked.append((set(tensors), outputs))
        return {"y": tensors["x"]}

    x = np.ones(2, np.float32)
    assert TensorPipeline(LIMITED).run(graph, {"x": x})["y"] is x
    assert asked == [({"x"}, ("y",))]
