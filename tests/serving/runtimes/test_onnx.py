from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from protocol.errors import (
    ContractError,
    DataLossError,
    FailedPreconditionError,
    InvalidRequestError,
)
from protocol.graphs import load_pipelines
from protocol.version_folder import ONNX_STEP_FILE, Manifest, ServingTuning
from serving.core.batch_run import run_batch
from serving.core.loading import resident_bytes
from serving.runtimes import onnx as runtime
from serving.runtimes.onnx import OnnxRuntime, OnnxServable
from tests.protocol.tiny_translator import (
    NumpyTranslator,
    make_tokenizer,
    publish_tiny_translator,
)


def predict(servable: OnnxServable, inputs: dict[str, Any], signature: str = "serving_default"):
    [result] = run_batch(servable, signature, [servable.prepare(signature, inputs)])
    if isinstance(result, Exception):
        raise result
    return result


def graph_of_one_node(operator: str, dtype: int, shape: list[Any]) -> onnx.GraphProto:
    return helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"])],
        "one",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", dtype, shape)],
    )


def test_a_graph_without_manifest_gets_its_own_signature(model_folders) -> None:
    servable = OnnxRuntime().load(model_folders.half_plus_two(1), None)
    assert set(servable.signatures) == {"serving_default", "tensors"}
    spec = servable.signatures["serving_default"]
    assert [(t.name, t.dtype, t.shape) for t in spec.inputs] == [("x", "float32", (None, 3))]
    assert [tensor.name for tensor in spec.outputs] == ["y", "z"]
    for signature in servable.signatures:
        outputs = predict(servable, {"x": np.ones((2, 3), np.float32)}, signature)
        assert outputs["y"].tolist() == [[2.5] * 3] * 2


def test_text_goes_in_and_labels_come_out(model_folders) -> None:
    folder = model_folders.sentiment()
    servable = OnnxRuntime().load(folder, Manifest.read(folder))
    texts = np.array([b"The film was GOOD!", b"bad, bad film", b"", b"film " * 50], dtype=object)
    outputs = predict(servable, {"text": texts})
    assert outputs["label"].tolist()[:2] == [b"positive", b"negative"]
    assert outputs["probability"].shape == (4, 2)
    np.testing.assert_allclose(outputs["probability"].sum(axis=1), 1, rtol=1e-6)
    assert outputs["tokens"].tolist() == [4, 3, 0, 50]
    assert outputs["truncated"].tolist() == [False, False, False, True]


def test_joined_requests_equal_single_ones(model_folders) -> None:
    folder = model_folders.sentiment()
    servable = OnnxRuntime().load(folder, Manifest.read(folder))
    requests = [[b"good"], [b"bad film was bad", b"the"], [b"not good not good not good"]]
    items = [
        servable.prepare("serving_default", {"text": np.array(texts, dtype=object)})
        for texts in requests
    ]
    joined = run_batch(servable, "serving_default", items)
    for texts, result in zip(requests, joined, strict=True):
        alone = predict(servable, {"text": np.array(texts, dtype=object)})
        for name, values in alone.items():
            np.testing.assert_array_equal(result[name], values)


def test_a_translator_is_two_graphs_and_a_search_on_the_host(tmp_path: Path) -> None:
    publish_tiny_translator(tmp_path)
    servable = OnnxRuntime().load(tmp_path, Manifest.read(tmp_path))
    assert set(servable.signatures) == {"serving_default", "attention", "tensors"}
    texts = np.array([b"abc d", b"", b"hh a bc", b"abcdefgh abcdefg"], dtype=object)
    inputs = {"text": texts, "beam_width": np.array(4, np.int32)}
    for signature, given in {
        "serving_default": inputs,
        "attention": inputs,
        "tensors": {"token_ids": make_tokenizer().encode_batch(texts.tolist()).token_ids},
    }.items():
        found = predict(servable, given, signature)
        pipeline = load_pipelines(tmp_path, Manifest.read(tmp_path))[signature]
        prepared = pipeline.prepare(given)
        outputs = pipeline.run(NumpyTranslator(), pipeline.merge([prepared]))
        for name, values in pipeline.finish(outputs, prepared).items():
            if values.dtype == np.float32:
                np.testing.assert_allclose(found[name], values, atol=1e-4)
            else:
                np.testing.assert_array_equal(found[name], values)


def test_joined_texts_are_translated_as_single_ones(tmp_path: Path) -> None:
    publish_tiny_translator(tmp_path)
    servable = OnnxRuntime().load(tmp_path, Manifest.read(tmp_path))
    requests = [[b"abc d"], [b"", b"h"], [], [b"hh a bc"]]
    for signature in ("serving_default", "attention"):
        items = [
            servable.prepare(signature, {"text": np.array(texts, dtype=object)})
            for texts in requests
        ]
        for texts, result in zip(requests, run_batch(servable, signature, items), strict=True):
            assert not isinstance(result, Exception)
            alone = predict(servable, {"text": np.array(texts, dtype=object)}, signature)
            for name, values in alone.items():
                if values.dtype == np.float32:
                    np.testing.assert_allclose(result[name], values, atol=1e-5)
                else:
                    np.testing.assert_array_equal(result[name], values)


def test_how_to_search_is_checked(tmp_path: Path) -> None:
    publish_tiny_translator(tmp_path)
    servable = OnnxRuntime().load(tmp_path, Manifest.read(tmp_path))
    texts = np.array([b"abc"], dtype=object)
    with pytest.raises(InvalidRequestError, match="beam_width must be 1 to 16, got 99"):
        predict(servable, {"text": texts, "beam_width": np.array(99, np.int32)})
    with pytest.raises(ContractError, match="beam_width"):
        predict(servable, {"text": texts, "beam_width": np.array([2], np.int32)})


def test_a_translator_without_its_step_is_refused(tmp_path: Path) -> None:
    publish_tiny_translator(tmp_path)
    (tmp_path / ONNX_STEP_FILE).unlink()
    with pytest.raises(
        ContractError, match=r"model\.onnx in .* lacks the outputs \['continuations'"
    ):
        OnnxRuntime().load(tmp_path, Manifest.read(tmp_path))


def test_a_broken_step_is_named(tmp_path: Path) -> None:
    publish_tiny_translator(tmp_path)
    (tmp_path / ONNX_STEP_FILE).write_bytes(b"no model")
    with pytest.raises(DataLossError, match=r"can not load .*step\.onnx"):
        OnnxRuntime().load(tmp_path, Manifest.read(tmp_path))


def test_signature_defs_describe_both(model_folders) -> None:
    folder = model_folders.sentiment()
    servable = OnnxRuntime().load(folder, Manifest.read(folder))
    described = servable.signature_defs().signature_def
    assert set(described) == {"serving_default", "tensors"}
    assert described["serving_default"].inputs["text"].dtype == 7


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": np.ones((1, 3))}, r"expected float32\[\?,3\], got float64\[1,3\]"),
        ({"x": np.ones(3, np.float32)}, r"got float32\[3\]"),
        ({"x": np.ones((1, 4), np.float32)}, r"got float32\[1,4\]"),
        ({}, "input size does not match signature: 0!=1"),
        ({"q": np.ones((1, 3), np.float32)}, "Signature input alias: x"),
    ],
)
def test_inputs_are_checked(model_folders, inputs, message) -> None:
    servable = OnnxRuntime().load(model_folders.half_plus_two(1), None)
    with pytest.raises(ContractError, match=message):
        predict(servable, inputs)


def test_what_the_graph_refuses_is_the_requests_fault(model_folders) -> None:
    servable = OnnxRuntime().load(model_folders.lookup(), None)
    assert predict(servable, {"index": np.array([2])})["y"].tolist() == [20]
    with pytest.raises(InvalidRequestError, match="The graph can not run these inputs"):
        predict(servable, {"index": np.array([9])})


def test_empty_inputs_of_unknown_graphs_are_refused(model_folders) -> None:
    servable = OnnxRuntime().load(model_folders.half_plus_two(1), None)
    with pytest.raises(
        InvalidRequestError, match=r"Input x has the shape \[0, 3\] and no elements"
    ):
        predict(servable, {"x": np.ones((0, 3), np.float32)})


def test_a_scalar_input_runs_alone(model_folders) -> None:
    graph = graph_of_one_node("Neg", TensorProto.FLOAT, [])
    servable = OnnxRuntime().load(model_folders.publish("scalar", 1, graph), None)
    items = [servable.prepare("tensors", {"x": np.array(n, np.float32)}) for n in (1, 2)]
    assert items[0].batch_key != items[1].batch_key
    assert predict(servable, {"x": np.array(3, np.float32)})["y"].tolist() == -3


def test_strings_are_bytes_outside(model_folders) -> None:
    graph = graph_of_one_node("Identity", TensorProto.STRING, ["n"])
    servable = OnnxRuntime().load(model_folders.publish("strings", 1, graph), None)
    texts = np.array(["ä".encode(), b""], dtype=object)
    assert predict(servable, {"x": texts})["y"].tolist() == ["ä".encode(), b""]
    with pytest.raises(InvalidRequestError, match="not UTF-8"):
        predict(servable, {"x": np.array([b"\xff"], dtype=object)})


def test_a_type_that_can_not_travel_is_refused(model_folders) -> None:
    graph = helper.make_graph(
        [helper.make_node("SequenceEmpty", [], ["y"])],
        "sequence",
        [],
        [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)],
    )
    folder = model_folders.publish("sequence", 1, graph)
    with pytest.raises(ContractError, match=r"has the type seq\(tensor\(float\)\)"):
        OnnxRuntime().load(folder, None)


def test_a_broken_file_is_named(model_folders) -> None:
    folder = model_folders.broken(1)
    with pytest.raises(DataLossError, match=r"can not load .*half/1/model\.onnx"):
        OnnxRuntime().load(folder, None)


def test_a_graph_without_the_pipelines_output_is_refused(
    model_folders, make_manifest, tmp_path: Path
) -> None:
    folder = model_folders.sentiment()
    other = model_folders.half_plus_two(1)
    (folder / "model.onnx").write_bytes((other / "model.onnx").read_bytes())
    with pytest.raises(ContractError, match=r"lacks the outputs \['probability'\]"):
        OnnxRuntime().load(folder, Manifest.read(folder))


def test_a_warm_up_leaves_no_memory_behind(model_folders) -> None:
    node = helper.make_node
    graph = helper.make_graph(
        [node("Neg", ["x"], ["a"]), node("Abs", ["a"], ["b"]), node("ReduceSum", ["b"], ["y"])],
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    servable = OnnxRuntime().load(model_folders.publish("sum", 1, graph), None)
    x = np.ones(1 << 24, np.float32)
    before = resident_bytes()
    for _ in range(2):
        assert predict(servable, {"x": x})["y"].tolist() == [1 << 24]
    assert resident_bytes() - before < 2 * x.nbytes  # else four times as much
    servable.warmed_up()
    assert predict(servable, {"x": x})["y"].tolist() == [1 << 24]


def test_closing_frees_the_session(model_folders) -> None:
    servable = OnnxRuntime().load(model_folders.half_plus_two(1), None)
    servable.close()
    with pytest.raises(FailedPreconditionError, match="unloaded"):
        predict(servable, {"x": np.ones((1, 3), np.float32)})


@pytest.mark.parametrize(
    ("flag", "tuned", "threads"),
    [(0, None, 0), (0, 1, 1), (0, 3, 3), (0, 64, 4), (0, 0, 0), (2, 3, 2), (2, None, 2)],
)
def test_threads_are_those_of_the_flag_else_of_the_tuning(
    model_folders, make_manifest, monkeypatch, flag: int, tuned: int | None, threads: int
) -> None:
    opened = []

    def record(path: str, options: Any, **others: Any) -> Any:
        opened.append(options.intra_op_num_threads)
        return real(path, options, **others)

    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", record)
    monkeypatch.setattr(runtime, "USABLE_PROCESSORS", 4)
    tuning = None if tuned is None else ServingTuning(tuned, 8, None)
    folder = model_folders.sentiment(manifest=make_manifest(tuning=tuning))
    OnnxRuntime(flag).load(folder, Manifest.read(folder))
    assert opened == [threads]


@pytest.mark.parametrize("runs_inline", [True, False, None])
def test_the_place_of_a_run_is_that_of_the_tuning(
    model_folders, make_manifest, runs_inline: bool | None
) -> None:
    folder = model_folders.sentiment(
        manifest=make_manifest(tuning=ServingTuning(1, 8, runs_inline))
    )
    assert OnnxRuntime().load(folder, Manifest.read(folder)).runs_inline is runs_inline


def test_without_tuning_the_place_of_a_run_is_learned(model_folders) -> None:
    folder = model_folders.sentiment()
    assert OnnxRuntime().load(folder, Manifest.read(folder)).runs_inline is None
    assert OnnxRuntime().load(model_folders.half_plus_two(1), None).runs_inline is None
