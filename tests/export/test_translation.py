import logging
from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from export import FORMATS, translation
from export.onnx_graph import count_operators
from export.parity import ParityError
from export.translation import (
    SAMPLE_TEXTS,
    compare,
    load_examples,
    model_to_export,
    pipeline_parameters,
    sample_examples,
    warmup_requests,
    write_onnx,
)
from export.version import export_version
from models.common.backends import OnnxBackend, SavedModelBackend
from models.translation.decoding import continuations
from protocol.contracts import TRANSLATION, check_inputs, check_signature, signature_spec
from protocol.messages import SignatureDef
from protocol.subwords import START_ID
from protocol.tensors import to_ndarray
from protocol.version_folder import verify_files
from tests.models.translation.untrained import CONFIGS, TEXTS, make_model

BACKENDS = {"saved_model": SavedModelBackend, "onnx": OnnxBackend}
NAME = "translation_dates"


@pytest.fixture(scope="module", params=list(CONFIGS))
def model(request, tmp_path_factory):
    return make_model(request.param, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def version(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "version"
    export_version("translation", model, folder, FORMATS, sample_examples(), NAME)
    return folder


@pytest.fixture(scope="module")
def backend_of(version):
    """Opens a signature of an engine, once: to load a SavedModel takes seconds."""

    def backend_of(engine, signature="serving_default"):
        return BACKENDS[engine](version, signature)

    return cache(backend_of)


def texts(*values):
    encoded = np.empty(len(values), object)
    encoded[:] = [value if isinstance(value, bytes) else value.encode() for value in values]
    return encoded


def scalars(**values):
    return {name: np.array(value, np.int32) for name, value in values.items()}


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        if value.dtype == np.float32:
            np.testing.assert_allclose(found[name], value, atol=2e-4, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_version_says_under_which_name_it_is_served(version, model):
    manifest = verify_files(version)
    assert (manifest.task, manifest.model_name) == ("translation", NAME)
    assert manifest.files.keys() >= {"model.onnx", "step.onnx", "assets/subwords.json"}
    assert manifest.pipeline == pipeline_parameters(model)
    for engine in FORMATS:
        parity = manifest.parity[engine]
        assert parity["metric_engine"] == parity["metric_keras"] == 1
        assert parity["max_difference"] < 1e-3
        assert parity["examples"] == len(sample_examples())


@pytest.mark.parametrize("engine", FORMATS)
def test_engine_answers_as_keras(backend_of, model, engine):
    backend = backend_of(engine)
    for asked in ({}, {"beam_width": 1}, {"beam_width": 5, "alternatives": 3, "max_length": 7}):
        inputs = {"text": texts(*TEXTS), **scalars(**asked)}
        assert_same(backend.run_signature(inputs), model.run_signature(inputs))


@pytest.mark.parametrize("engine", FORMATS)
def test_text_is_answered_alike_alone_and_in_company(backend_of, engine):
    backend = backend_of(engine)
    together = backend.run_signature({"text": texts(*TEXTS)})
    for row, text in enumerate(TEXTS):
        alone = backend.run_signature({"text": texts(text)})
        assert_same(alone, {name: value[row : row + 1] for name, value in together.items()})


@pytest.mark.parametrize("signature", ["attention", "tensors"])
def test_both_engines_answer_alike(backend_of, model, signature):
    saved, session = (backend_of(engine, signature) for engine in FORMATS)
    batches = [texts(*TEXTS), texts(TEXTS[0]), texts(), texts("", " ")]
    for batch in batches:
        inputs = {"text": batch}
        if signature == "tensors":
            inputs = {"token_ids": model.tokenizer.encode_batch(batch).token_ids}
        expected = saved.run_signature(inputs)
        assert_same(session.run_signature(inputs), expected)
        if signature == "attention" and len(batch):
            ends = expected["target_tokens"] != b""
            np.testing.assert_allclose(expected["attention"].sum(axis=2), ends, atol=1e-5)


@pytest.mark.parametrize("engine", FORMATS)
def test_nothing_has_an_empty_answer(backend_of, engine):
    found = backend_of(engine).run_signature({"text": texts()})
    assert found["alternatives"].shape == found["alternative_scores"].shape == (0, 2)
    assert found["translation"].shape == found["score"].shape == found["truncated"].shape == (0,)


@pytest.fixture(scope="module")
def meta_graph(version):
    return SavedModel.FromString((version / "saved_model.pb").read_bytes()).meta_graphs[0]


def test_saved_model_signatures_keep_the_contract(meta_graph, model):
    for expected in TRANSLATION.signatures:
        official = meta_graph.signature_def[expected.name]
        definition = SignatureDef.FromString(official.SerializeToString())
        check_signature(expected, signature_spec(expected.name, definition))
        defaults = {name: tf.make_ndarray(value) for name, value in official.defaults.items()}
        assert defaults == {
            tensor.name: model.defaults[tensor.name]
            for tensor in expected.inputs
            if tensor.optional
        }


def test_saved_model_uses_stock_operators_only(meta_graph):
    functions = meta_graph.graph_def.library.function
    operators = {node.op for function in functions for node in function.node_def}
    library = {function.signature.name for function in functions}
    known = {name for name in dir(tf.raw_ops) if not name.startswith("_")}
    assert sorted(operators - known - library) == []
    assert not [name for name in operators if "PyFunc" in name]


def test_onnx_graphs_have_named_tensors_and_no_loop(version, model):
    encoder, step = (onnx.load(version / name) for name in ("model.onnx", "step.onnx"))
    recurrent = model.config.network == "attention"
    operator = model.config.attention.recurrent.upper()
    assert count_operators(encoder, operator) == recurrent
    norms = 0 if recurrent else 2 * model.config.transformer.encoder_layers + 1
    assert count_operators(encoder, "LayerNormalization") == norms
    for graph in (encoder, step):
        assert count_operators(graph, "Loop") == count_operators(graph, "Scan") == 0
        assert graph.opset_import[0].version == 18
    memory = [value.name for value in encoder.graph.output]
    state = [f"state_{name}" for name in sorted(pipeline_parameters(model)["state"])]
    assert [value.name for value in encoder.graph.input] == ["token_ids"]
    assert memory == sorted(memory)
    assert all(name.startswith("memory_") for name in memory)
    own = ["token_ids", "parents", "position", "alive"]
    assert [value.name for value in step.graph.input] == [*own, *memory, *state]
    following = [name.replace("state_", "next_") for name in state]
    outputs = ["scores", "continuations", "attention"]
    assert [value.name for value in step.graph.output] == [*outputs, *following]


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (2, 0), (2, 1)])
def test_encoder_takes_sources_without_tokens(version, shape):
    session = onnxruntime.InferenceSession(version / "model.onnx")
    names = [output.name for output in session.get_outputs()]
    found = dict(
        zip(names, session.run(None, {"token_ids": np.zeros(shape, np.int32)}), strict=True)
    )
    assert all(len(value) == shape[0] for value in found.values())
    assert all(np.isfinite(value).all() for value in found.values())
    assert found["memory_bias"].shape[-1] == max(1, shape[1])


def test_step_continues_the_parents_it_is_told(version, model):
    """Two steps of two sources with two hypotheses each, whose parents change places."""
    network, size = model.network, model.tokenizer.vocabulary_size
    sources = model.tokenizer.encode_batch(TEXTS[:2]).token_ids
    encoder, step = (
        onnxruntime.InferenceSession(version / name) for name in ("model.onnx", "step.onnx")
    )
    names = [output.name for output in encoder.get_outputs()]
    memory = dict(zip(names, encoder.run(None, {"token_ids": sources}), strict=True))
    expected_memory = network.encode(sources)
    is_token = sources != 0
    for name, value in memory.items():
        expected = np.asarray(expected_memory[name.removeprefix("memory_")])
        if name == "memory_states":  # the operator writes zeros on padding
            value, expected = value[is_token], expected[is_token]
        if not name.startswith("memory_keys"):
            np.testing.assert_allclose(value, expected, atol=1e-4, err_msg=name)

    state = {name: np.asarray(value) for name, value in network.start(4, 0).items()}
    parents = np.array([0, 1, 2, 3], np.int32)
    ids = np.full(4, START_ID, np.int32)
    alive = np.array([[0.0, -1e9], [0.0, -1e9]], np.float32)
    for position in range(3):
        feeds = {"token_ids": ids, "parents": parents, "alive": alive, **memory}
        feeds |= {f"state_{name}": value for name, value in state.items()}
        feeds["position"] = np.array(position, np.int32)
        outputs = [output.name for output in step.get_outputs()]
        found = dict(zip(outputs, step.run(None, feeds), strict=True))
        past = {name: value[parents] for name, value in state.items()}
        keras_step = network.growing_step(expected_memory, past, ids, position)
        best = continuations(alive, keras_step.logits, 2)
        np.testing.assert_allclose(found["scores"], best.scores, atol=1e-3)
        np.testing.assert_array_equal(found["continuations"] // size, best.parents)
        np.testing.assert_array_equal(found["continuations"] % size, best.tokens)
        np.testing.assert_allclose(found["attention"], keras_step.weights, atol=1e-4)
        for name, value in keras_step.state.items():
            np.testing.assert_allclose(found[f"next_{name}"], value, atol=1e-4)
        state = {name: np.asarray(value) for name, value in keras_step.state.items()}
        parents = np.array([1, 0, 2, 2], np.int32)
        ids = (found["continuations"] % size)[:, :2].ravel().astype(np.int32)
        alive = found["scores"][:, :2]


class Altered:
    """The model itself, some of whose answers are changed."""

    def __init__(self, model, share=1.0, **changes):
        self.model, self.share, self.changes = model, share, changes

    def run_signature(self, inputs):
        outputs = self.model.run_signature(inputs)
        chosen = np.arange(len(outputs["score"])) % round(1 / self.share) == 0
        return outputs | {
            name: np.where(chosen, change(outputs[name]), outputs[name])
            for name, change in self.changes.items()
        }


EXAMPLES = [text for text in sample_examples() if text.strip()]


@pytest.mark.parametrize(
    ("altered", "message"),
    [
        ({"share": 0.05, "translation": lambda texts: texts + b"!"}, "equal_translations 0.9"),
        ({"score": lambda scores: scores + np.float32(0.01)}, "outputs differ from Keras by 0.01"),
        ({"score": lambda scores: scores * np.float32("nan")}, "score holds NaN"),
        ({"truncated": np.logical_not}, "does not cut the same texts"),
    ],
)
def test_other_answers_are_refused(model, altered, message):
    with pytest.raises(ParityError, match=f"onnx: .*{message}"):
        compare(model, Altered(model, **altered), "onnx", EXAMPLES[:60])


def test_a_difference_is_counted_and_listed(model, caplog):
    class OneOther:
        def run_signature(self, inputs):
            outputs = model.run_signature(inputs)
            chosen, texts = inputs["text"] == EXAMPLES[0].encode(), outputs["translation"]
            return outputs | {"translation": np.where(chosen, texts + b"!", texts)}

    with caplog.at_level(logging.INFO):
        parity = compare(model, OneOther(), "onnx", EXAMPLES)
    assert parity.metric_engine == pytest.approx(1 - 1 / len(EXAMPLES))
    assert f"1 of {len(EXAMPLES)} translations differ" in caplog.text
    assert EXAMPLES[0] in caplog.text


def test_a_loop_or_a_second_recurrent_operator_is_refused(model, tmp_path, monkeypatch):
    for name in ("encoder_model", "step_model"):
        monkeypatch.setattr(translation, name, lambda model: onnx.ModelProto())
    monkeypatch.setattr(translation, "count_operators", lambda graph, operator: 1)
    with pytest.raises(ValueError, match="got 2 and 2"):
        write_onnx(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_warmup_requests_keep_the_contract_of_all_signatures():
    requests = warmup_requests(NAME)
    assert {request.model_spec.name for request in requests} == {NAME}
    for request in requests:
        spec = TRANSLATION.signature(request.model_spec.signature_name)
        check_inputs(spec, {name: to_ndarray(v) for name, v in request.inputs.items()})
    names = {request.model_spec.signature_name for request in requests}
    assert names == {spec.name for spec in TRANSLATION.signatures}
    rows = {len(to_ndarray(r.inputs["text"])) for r in requests if "text" in r.inputs}
    assert rows == {1, 8, len(SAMPLE_TEXTS)}


def test_examples_are_built_in_or_those_of_a_folder(model, tmp_path):
    assert len(set(sample_examples())) == len(sample_examples()) > 200
    (tmp_path / "train.tsv").write_text("one\tun\n")
    (tmp_path / "dev.tsv").write_text("two\tdeux\ntwo\tdeux fois\nthree\ttrois\n")
    assert load_examples(tmp_path, model) == ["two", "three"]


def test_a_named_run_is_loaded(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        model_to_export(tmp_path, tmp_path)
