from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from export.onnx_graph import count_operators
from export.sentiment import SAMPLE_TEXTS, onnx_model
from models.common.backends import OnnxBackend, SavedModelBackend
from models.common.run_folder import RunFolder
from models.sentiment.config import TINY
from models.sentiment.network import build_network
from models.sentiment.signature import SentimentModel
from protocol.contracts import SENTIMENT, check_signature, signature_spec
from protocol.messages import SignatureDef


def texts(*values):
    return {"text": np.array([v.encode() for v in values], object)}


@pytest.fixture(scope="module")
def engines(exported):
    return {"saved_model": SavedModelBackend(exported), "onnx": OnnxBackend(exported)}


@pytest.mark.parametrize("engine", ["saved_model", "onnx"])
def test_engine_answers_as_keras(engines, tiny_model, engine):
    inputs = texts(*SAMPLE_TEXTS)
    expected, found = tiny_model.run_signature(inputs), engines[engine].run_signature(inputs)
    for name in ("label", "tokens", "truncated"):
        np.testing.assert_array_equal(found[name], expected[name])
    np.testing.assert_allclose(found["probability"], expected["probability"], atol=1e-5)


@pytest.mark.parametrize("engine", ["saved_model", "onnx"])
def test_text_is_answered_alike_alone_and_in_company(engines, engine):
    together = engines[engine].run_signature(texts(*SAMPLE_TEXTS))
    for row, text in enumerate(SAMPLE_TEXTS):
        alone = engines[engine].run_signature(texts(text))
        np.testing.assert_allclose(alone["probability"][0], together["probability"][row], atol=1e-5)


@pytest.fixture(scope="module")
def meta_graph(exported):
    saved = SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    return saved.meta_graphs[0]


def test_saved_model_signatures_keep_the_contract(meta_graph):
    for expected in SENTIMENT.signatures:
        official = meta_graph.signature_def[expected.name]
        definition = SignatureDef.FromString(official.SerializeToString())
        check_signature(expected, signature_spec(expected.name, definition))


def test_saved_model_uses_stock_operators_only(meta_graph):
    functions = meta_graph.graph_def.library.function
    operators = {node.op for function in functions for node in function.node_def}
    library = {function.signature.name for function in functions}
    known = {name for name in dir(tf.raw_ops) if not name.startswith("_")}
    assert "StaticRegexReplace" in operators
    assert sorted(operators - known - library) == []
    assert not [name for name in operators if "PyFunc" in name]


def test_onnx_has_one_recurrent_operator_and_the_named_tensors(exported):
    model = onnx.load(exported / "model.onnx")
    assert count_operators(model, "LSTM") == 1
    assert count_operators(model, "Loop") == count_operators(model, "Scan") == 0
    assert [value.name for value in model.graph.input] == ["token_ids"]
    assert [value.name for value in model.graph.output] == ["probability"]
    assert model.opset_import[0].version == 18


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (2, 0)])
def test_empty_input_has_an_answer_and_ends_nothing(exported, engines, shape):
    backend = OnnxBackend(exported, signature="tensors")
    found = backend.run_signature({"token_ids": np.zeros(shape, np.int32)})
    assert found["probability"].shape == (shape[0], 2)
    of_empty_text = engines["saved_model"].run_signature(texts(""))["probability"]
    for row in found["probability"]:
        np.testing.assert_allclose(row, of_empty_text[0], atol=1e-5)


@pytest.mark.parametrize("engine", ["saved_model", "onnx"])
def test_no_texts_have_no_answers(engines, engine):
    found = engines[engine].run_signature({"text": np.array([], object)})
    assert found["probability"].shape == (0, 2)
    assert found["label"].shape == found["tokens"].shape == found["truncated"].shape == (0,)


def test_gru_becomes_one_operator_too(tiny_model, tmp_path):
    config = replace(TINY, network=replace(TINY.network, recurrent="gru"))
    network = build_network(config.network, config.tokenizer.vocabulary_size, 2)
    network.classify.get_layer("calibration").temperatures.assign([1.5, 0.7])
    model = SentimentModel(config, network, tiny_model.tokenizer, RunFolder(tmp_path), {})
    graph = onnx_model(model)
    assert count_operators(graph, "GRU") == 1
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    token_ids = np.array([[3, 4, 5, 0], [6, 0, 0, 0]], np.int32)
    (found,) = session.run(None, {"token_ids": token_ids})
    logits = np.asarray(network.model(token_ids, training=False)["logits"])
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)
