from types import SimpleNamespace

import numpy as np
import pytest

from protocol.contracts import CONTRACTS, FACE, SENTIMENT, TRANSLATION
from protocol.errors import (
    DataLossError,
    FailedPreconditionError,
    InternalError,
    InvalidRequestError,
)
from protocol.graphs import SessionGraph, load_pipelines, missing_outputs
from protocol.pipelines import TensorPipeline
from protocol.tokenizer import WordTokenizer
from protocol.version_folder import ASSETS_FOLDER, Manifest
from tests.protocol.tiny_translator import PIPELINE, make_tokenizer, publish_tiny_translator

TOKENIZER = WordTokenizer(["good", "bad"], [(r"[\s\v]+", " ")], max_tokens=100, head_tokens=50)


def manifest(task, **values):
    return Manifest(task=task, model_name=task, created="2025-03-01T12:00:00+00:00", **values)


# Sessions.


class Echo:
    """A session by hand: gives its inputs back as its outputs, and remembers the types."""

    def __init__(self, **types):
        self.types = types
        self.fed = {}

    def get_inputs(self):
        return [SimpleNamespace(name=name, type=kind) for name, kind in self.types.items()]

    get_outputs = get_inputs

    def run(self, output_names, input_feed, run_options=None):
        self.fed = dict(input_feed)
        self.run_options = run_options
        return [input_feed[name] for name in output_names]


def test_strings_go_in_as_text_and_come_out_as_bytes():
    session = Echo(words="tensor(string)", n="tensor(int64)")
    words = np.array([["caf\u00e9".encode(), b""]], dtype=object)
    found = SessionGraph(session)({"words": words, "n": np.array([1])}, ["words", "n"])
    assert session.fed["words"].tolist() == [["caf\u00e9", ""]]
    assert found["words"].tolist() == words.tolist()
    assert list(found) == ["words", "n"]


def test_strings_that_are_no_text_are_refused():
    graph = SessionGraph(Echo(words="tensor(string)"))
    with pytest.raises(InvalidRequestError, match="Input words is not UTF-8"):
        graph({"words": np.array([b"\xff"], dtype=object)}, ["words"])


def test_the_session_with_the_outputs_computes_them():
    numbers = {name: np.array(n) for n, name in enumerate(["a", "b", "memory_x", "memory_y"])}
    first = Echo(a="tensor(int64)", memory_x="tensor(int64)", memory_y="tensor(int64)")
    second = Echo(a="tensor(int64)", b="tensor(int64)")
    graph = SessionGraph(first, second)
    assert list(graph(numbers, ("memory_*",)).items()) == [("memory_x", 2), ("memory_y", 3)]
    assert second.fed == {}
    assert graph(numbers, ["b", "a"]) == {"b": 1, "a": 0}
    assert second.fed == numbers
    first.fed = second.fed = {}
    assert graph(numbers, ("a", "memory_*")) == {"a": 0, "memory_x": 2, "memory_y": 3}
    assert graph(numbers, ("a",)) == {"a": 0}
    assert first.fed == numbers
    assert second.fed == {}


@pytest.mark.parametrize("outputs", [("c",), ("b", "memory_x"), ("next_*",)])
def test_outputs_that_no_session_has(outputs):
    graph = SessionGraph(Echo(memory_x="tensor(int64)"), Echo(b="tensor(int64)"))
    with pytest.raises(InternalError, match=r"no graph computes .*; there are \[\['memory_x'\]"):
        graph({}, outputs)


def test_missing_outputs():
    available = ["memory_x", "scores"]
    assert missing_outputs(["scores", "memory_*"], available) == []
    assert missing_outputs(["memory_", "next_*", "scores"], available) == ["memory_", "next_*"]


# Loading.


@pytest.mark.parametrize("task", ["face", "detection", "segmentation"])
def test_image_tasks_have_a_pipeline_for_each_signature(tmp_path, task):
    tiles = {"tile": 64, "overlap": 8}
    pipelines = load_pipelines(tmp_path, manifest(task, labels=("a", "b"), pipeline=tiles))
    expected = {signature.name: signature for signature in CONTRACTS[task].signatures}
    assert {name: pipeline.spec for name, pipeline in pipelines.items()} == expected


def test_segmentation_without_labels(tmp_path):
    with pytest.raises(FailedPreconditionError, match="has no labels"):
        load_pipelines(tmp_path, manifest("segmentation"))


def test_segmentation_without_tiles(tmp_path):
    described = manifest("segmentation", labels=("a", "b"), pipeline={"tile": 64})
    with pytest.raises(FailedPreconditionError, match="no valid tile and overlap: 'overlap'"):
        load_pipelines(tmp_path, described)


def test_loading_sentiment(tmp_path):
    TOKENIZER.save(tmp_path / ASSETS_FOLDER)
    described = manifest("sentiment", labels=("no", "yes"), signatures=SENTIMENT.signatures)
    pipelines = load_pipelines(tmp_path, described)
    assert pipelines.keys() == {"serving_default", "tensors"}
    assert isinstance(pipelines["tensors"], TensorPipeline)
    text = {"text": np.array([b"good"], dtype=object)}
    prepared = pipelines["serving_default"].prepare(text)
    outputs = {"probability": np.array([[0.2, 0.8]], np.float32)}
    found = pipelines["serving_default"].finish(outputs, prepared)
    assert found["label"].tolist() == [b"yes"]


def test_loading_translation(tmp_path):
    publish_tiny_translator(tmp_path)
    pipelines = load_pipelines(tmp_path, Manifest.read(tmp_path))
    expected = {signature.name: signature for signature in TRANSLATION.signatures}
    assert {name: pipeline.spec for name, pipeline in pipelines.items()} == expected
    assert pipelines["tensors"].settings.state == {"seen": (0,)}
    text = {"text": np.array([b"abc"], dtype=object)}
    ids = pipelines["serving_default"].prepare(text).tensors["token_ids"]
    assert ids.tolist() == [make_tokenizer().encode("abc").ids]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state": None}, "no attribute 'items'"),
        ({"beam_width": "wide"}, "invalid literal"),
        ({"state": {"seen": 1}}, "not iterable"),
    ],
)
def test_translation_with_wrong_settings(tmp_path, changes, message):
    make_tokenizer().save(tmp_path / ASSETS_FOLDER)
    described = manifest("translation", pipeline={**PIPELINE, **changes})
    with pytest.raises(
        FailedPreconditionError, match=f"no valid settings of the search.*{message}"
    ):
        load_pipelines(tmp_path, described)


def test_translation_without_settings(tmp_path):
    make_tokenizer().save(tmp_path / ASSETS_FOLDER)
    with pytest.raises(FailedPreconditionError, match="'vocabulary_size'"):
        load_pipelines(tmp_path, manifest("translation"))


def test_translation_without_assets(tmp_path):
    with pytest.raises(DataLossError, match=r"tokenizer in .* cannot be read"):
        load_pipelines(tmp_path, manifest("translation", pipeline=PIPELINE))


def test_other_tasks_have_their_tensors(tmp_path):
    pipelines = load_pipelines(tmp_path, manifest("other", signatures=FACE.signatures))
    assert pipelines.keys() == {"tensors"}
    assert pipelines["tensors"].spec == FACE.signature("tensors")


def test_unknown_task_without_tensors(tmp_path):
    assert load_pipelines(tmp_path, manifest("other")) == {}


def test_sentiment_without_assets(tmp_path):
    with pytest.raises(DataLossError, match=r"tokenizer in .* cannot be read"):
        load_pipelines(tmp_path, manifest("sentiment", labels=("no", "yes")))


def test_sentiment_without_labels(tmp_path):
    with pytest.raises(FailedPreconditionError, match="has no labels"):
        load_pipelines(tmp_path, manifest("sentiment"))
