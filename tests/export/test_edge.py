"""Edge formats: every file is run in its own engine and judged; one that fails is not there."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter

from clients import FaceClient, SegmentationClient, SentimentClient, TranslationClient
from clients.local import LocalTransport
from export import edge, face, judges, segmentation
from export.engines import FileBackend
from export.formats import ALL_FORMATS, EDGE_FORMATS, FILES, REFUSALS_FILE, Gate, read_refusals
from export.version import export_version
from models.sentiment.synthetic import make_examples
from models.translation.data import Item
from protocol.version_folder import Manifest, verify_files
from tests.models.translation.untrained import make_model

TEXTS = ["A wonderful little film .", "", "so bored by a dull , dull plot"]


def export(task, model, folder, examples, formats=("onnx", *EDGE_FORMATS)):
    """Exports on made-up data; returns the manifest and what was refused."""
    manifest = export_version(task, model, folder, formats, examples)
    return manifest, read_refusals(folder)


@pytest.fixture(scope="module")
def sentiment(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sentiment") / "version"
    return folder, *export("sentiment", tiny_model, folder, make_examples(40, seed=9))


@pytest.fixture(scope="module")
def faces(face_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("face") / "version"
    formats = ("onnx", "onnx-int8", "litert-int8")
    return folder, *export("face", face_model, folder, face.sample_examples(), formats)


@pytest.fixture(scope="module")
def nuclei(tiny_segmentation_run, tmp_path_factory):
    from models.segmentation.signature import load_model

    folder = tmp_path_factory.mktemp("segmentation") / "version"
    model = load_model(tiny_segmentation_run)
    examples = segmentation.sample_examples()
    formats = ("onnx", "onnx-fp16", "onnx-int8", "litert")
    return folder, *export("segmentation", model, folder, examples, formats)


@pytest.mark.parametrize("name", ["sentiment", "faces", "nuclei"])
def test_every_format_counts_and_is_sealed(name, request):
    folder, manifest, refused = request.getfixturevalue(name)
    assert refused == {}
    assert len(manifest.parity) >= 3
    assert set(verify_files(folder).files) >= {FILES[each] for each in manifest.parity}
    for file in folder.glob("model.*.onnx"):
        onnx.checker.check_model(file)
        assert file.stat().st_size < (folder / "model.onnx").stat().st_size


@pytest.mark.parametrize("name", ["sentiment", "faces", "nuclei"])
def test_litert_files_have_builtin_operators_and_one_signature(name, request):
    folder, *_ = request.getfixturevalue(name)
    for file in folder.glob("*.tflite"):
        interpreter = Interpreter(model_path=str(file))
        interpreter.allocate_tensors()
        assert list(interpreter.get_signature_list()) == ["tensors"]
        names = {operator["op_name"] for operator in interpreter._get_ops_details()}
        assert not [operator for operator in names if operator.startswith("Flex")]


@pytest.mark.parametrize("file", FILES.values())
def test_a_local_client_classifies_alike_with_every_file(sentiment, file):
    folder, *_ = sentiment
    with SentimentClient(transport=LocalTransport(folder / file)) as client:
        results = client.classify(TEXTS)
    with SentimentClient(transport=LocalTransport(folder / "model.onnx")) as client:
        for a, b in zip(results, client.classify(TEXTS), strict=True):
            np.testing.assert_allclose(a.probabilities, b.probabilities, atol=0.1)
            assert a.tokens == b.tokens


@pytest.mark.parametrize("file", ["model.onnx", "model.int8.onnx", "model.int8.tflite"])
def test_a_local_client_embeds_faces_of_any_size(faces, file):
    images = [example.pixels() for example in face.sample_examples()[-4:]]
    with FaceClient(transport=LocalTransport(faces[0] / file)) as client:
        vectors = np.stack([found.vector for found in client.embed(images)])
        assert client.embed([]) == []
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)


@pytest.mark.parametrize("file", ["model.onnx", "model.int8.onnx", "model.tflite"])
def test_a_local_client_segments_images_of_any_size(nuclei, file):
    images = [example.image for example in segmentation.sample_examples()[:5]]
    with SegmentationClient(transport=LocalTransport(nuclei[0] / file)) as client:
        masks = [result.mask for result in client.segment(images)]
    assert [mask.shape for mask in masks] == [image.shape[:2] for image in images]


@pytest.mark.parametrize("file", ["model.int8.onnx", "model.int8.tflite"])
def test_a_command_answers_without_tensorflow(faces, file):
    folder, *_ = faces
    samples = str(folder / "assets" / "samples" / "anna_0.png")
    code = (
        "import sys\n"
        "sys.modules['tensorflow'] = sys.modules['keras'] = None\n"  # an import would fail
        "from clients.command_line import main\n"
        f"sys.exit(main(['face', 'embed', '--local', {str(folder / file)!r}, {samples!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_onnx_need_not_stay(tiny_model, tmp_path):
    folder = tmp_path / "version"
    manifest, _ = export("sentiment", tiny_model, folder, make_examples(10, seed=9), ["onnx-fp16"])
    assert not (folder / "model.onnx").exists()
    assert set(manifest.parity) == {"onnx-fp16"}


def test_a_file_that_fails_its_gate_is_gone_and_its_reason_stays(tiny_model, tmp_path, sentiment):
    folder, *_ = sentiment
    source = edge.EdgeSource(
        "sentiment",
        tiny_model,
        tmp_path,
        folder,
        [],
        {"onnx-int8": Gate(difference=0.0, drop=0.01)},
    )
    Manifest.read(folder).write(tmp_path)
    (tmp_path / "assets").symlink_to(folder / "assets")
    judge = judges.make_judge("sentiment", tiny_model, None)
    report = edge.write_edge_formats(source, ["onnx-fp16", "onnx-int8"], judge)
    assert [parity.engine for parity in report.parity] == ["onnx-fp16"]
    assert "allowed 0" in report.refused["onnx-int8"]
    assert not (tmp_path / FILES["onnx-int8"]).exists()
    assert json.loads((tmp_path / REFUSALS_FILE).read_text()) == report.refused


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["transformer", "attention"])
def test_a_translator_is_two_files(kind, tmp_path, monkeypatch):
    model = make_model(kind, tmp_path / "run")
    texts = ["the red house", "two blue doors", ""]
    items = [Item(text, (text or "x",)) for text in texts]
    monkeypatch.setattr("export.translation.sample_references", lambda model: items)
    folder = tmp_path / "version"
    _, refused = export("translation", model, folder, texts, ("onnx", "onnx-fp16", "litert"))
    assert refused == {}
    names = {path.name for path in folder.iterdir()}
    assert names >= {"model.fp16.onnx", "step.fp16.onnx", "model.tflite", "step.tflite"}
    expected = FileBackend(folder, "onnx")
    with TranslationClient(transport=LocalTransport(folder / "model.tflite")) as client:
        found = client.translate(texts, beam_width=3)
        weights = client.attention_one(texts[0])
    inputs = {"text": np.array([text.encode() for text in texts], object)}
    inputs["beam_width"] = np.array(3, np.int32)
    answers = expected.run_signature(inputs)
    assert [result.translation.encode() for result in found] == answers["translation"].tolist()
    np.testing.assert_allclose(weights.attention.sum(axis=1), 1, atol=1e-4)


def test_calibration_says_so_without_data(face_model, caplog):
    images = edge.calibration_of(face, face_model, None)
    assert len(images) >= 16
    assert "made-up images" in caplog.text
    assert edge.calibration_of(object(), face_model, None) == []


def test_known_data_is_what_the_model_learned_from(face_model, tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    model = replace(face_model, details={**face_model.details, "data": {"a": "", "b": ""}})
    assert edge.known_data(model) is None
    (tmp_path / "b").mkdir()
    assert edge.known_data(model) == tmp_path / "b"


def test_formats_are_named_in_the_order_they_are_made():
    assert ALL_FORMATS[:2] == ("saved_model", "onnx")
