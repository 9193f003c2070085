import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.parity import ParityError
from export.sentiment import TOLERANCE, compare
from export.version import export_version
from models.common.backends import OnnxBackend
from models.sentiment.synthetic import make_examples
from protocol.contracts import SENTIMENT
from protocol.errors import DataLossError
from protocol.version_folder import Manifest, verify_files
from protocol.warmup import read_warmup


def test_version_folder_is_complete(exported):
    names = {p.relative_to(exported).as_posix() for p in exported.rglob("*") if p.is_file()}
    assert names >= {
        "saved_model.pb",
        "variables/variables.index",
        "model.onnx",
        "manifest.json",
        "assets/tokenizer.json",
        "assets/vocabulary.txt",
        "assets.extra/tf_serving_warmup_requests",
    }
    verify_files(exported)


def test_manifest_says_what_it_is_and_where_it_came_from(exported):
    manifest = Manifest.read(exported)
    assert manifest.task == "sentiment"
    assert manifest.labels == ("negative", "positive")
    assert manifest.signatures == SENTIMENT.signatures
    assert manifest.data == {"synthetic": "seed-7"}
    assert manifest.metrics["synthetic"]["accuracy"] > 0.95
    assert manifest.config["network"]["recurrent"] == "lstm"
    assert set(manifest.packages) >= {"tensorflow", "keras", "onnxruntime"}
    for engine in ("saved_model", "onnx"):
        assert manifest.parity[engine]["max_difference"] < 1e-4
        assert manifest.parity[engine]["examples"] == 100


def test_a_changed_file_is_noticed(version_folder):
    vocabulary = version_folder / "assets" / "vocabulary.txt"
    vocabulary.write_text(vocabulary.read_text().replace("dull", "dusk"))
    with pytest.raises(DataLossError, match=r"assets/vocabulary\.txt"):
        verify_files(version_folder)


def test_warmup_requests_name_the_model_and_its_signature(exported):
    logs = read_warmup(exported / "assets.extra" / "tf_serving_warmup_requests")
    requests = [log.predict_log.request for log in logs]
    assert len(requests) >= 4
    assert {r.model_spec.name for r in requests} == {"sentiment"}
    assert {r.model_spec.signature_name for r in requests} == {"serving_default"}
    assert {r.inputs["text"].tensor_shape.dim[0].size for r in requests} >= {1, 8}


def test_a_file_that_answers_differently_does_not_count(version_folder, tiny_model):
    path = version_folder / "model.onnx"
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if numpy_helper.to_array(tensor).shape == (97, 1) or tensor.name.endswith("weights"):
            changed = numpy_helper.to_array(tensor) + np.float32(0.3)
            tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
    onnx.save(model, path)
    with pytest.raises(ParityError, match="onnx"):
        compare(tiny_model, OnnxBackend(version_folder), "onnx", make_examples(100, 9))


def test_a_failed_comparison_leaves_nothing_to_publish(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setitem(TOLERANCE, "onnx", 0.0)
    folder = tmp_path / "version"
    with pytest.raises(ParityError, match="outputs differ from Keras"):
        export_version("sentiment", tiny_model, folder, ["onnx"], make_examples(50, 9))
    assert (folder / "model.onnx").is_file()
    with pytest.raises(DataLossError, match=r"manifest\.json"):
        verify_files(folder)


def test_an_earlier_export_is_replaced_and_nothing_else(tiny_model, version_folder, tmp_path):
    export_version("sentiment", tiny_model, version_folder, ["onnx"], make_examples(20, 9))
    assert not (version_folder / "saved_model.pb").exists()
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="holds something other than an earlier export"):
        export_version("sentiment", tiny_model, tmp_path, ["onnx"], [])
    assert (tmp_path / "thesis.txt").is_file()


def test_unknown_format_is_refused(tiny_model, tmp_path):
    with pytest.raises(
        ValueError, match=r"unknown format \['pickle'\]; formats: saved_model, onnx"
    ):
        export_version("sentiment", tiny_model, tmp_path, ["pickle"], [])
