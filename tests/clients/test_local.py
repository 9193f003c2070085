"""Files answer as a server does, in a process without TensorFlow."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from clients import SegmentationClient, SentimentClient
from clients.command_line import main
from clients.local import LocalTransport
from protocol.errors import (
    ContractError,
    DataLossError,
    FailedPreconditionError,
    NotFoundError,
    UnimplementedError,
)
from protocol.version_folder import Manifest
from tests.bench.tiny_model import publish_tiny_model

pytest.importorskip("onnxruntime")

TEXTS = ["A joy from start to end.", "", "Two lost hours, and a bad film."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    repository = tmp_path_factory.mktemp("repository")
    publish_tiny_model(repository)
    return repository / "sentiment" / "1"


@pytest.fixture
def file(folder):
    return folder / "model.onnx"


def test_typed_results(file):
    with SentimentClient(transport=LocalTransport(file)) as client:
        results = client.classify(TEXTS)
    assert [result.text for result in results] == TEXTS
    assert {result.label for result in results} <= {"negative", "positive"}
    for result in results:
        assert sum(result.probabilities) == pytest.approx(1, abs=1e-5)
        assert result.probability == max(result.probabilities)
    assert results[0].tokens > results[1].tokens == 0


def test_one_text_is_answered_alone_as_in_company(file):
    with SentimentClient(transport=LocalTransport(file, threads=1)) as client:
        together = client.classify(TEXTS)
        alone = [client.classify_one(text) for text in TEXTS]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a.probabilities, b.probabilities, atol=1e-5)
        assert a.tokens == b.tokens


def test_command_line(file, capsys):
    assert main(["sentiment", "--json", "--local", str(file), *TEXTS]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["text"] for line in lines] == TEXTS


def test_it_needs_neither_tensorflow_nor_a_server(file):
    """No TensorFlow, and nothing of export, models or serving, is imported."""
    code = (
        "import sys\n"
        "from clients.command_line import main\n"
        f"status = main(['sentiment', '--local', {str(file)!r}, 'A good film.'])\n"
        "heavy = {'tensorflow', 'keras', 'tf2onnx', 'onnx', 'export', 'models', 'serving'}\n"
        "found = heavy & {name.partition('.')[0] for name in sys.modules}\n"
        "assert not found, found\n"
        "sys.exit(status)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "A good film." in done.stdout


def test_a_client_of_another_task_is_refused(file, tmp_path):
    image = np.zeros((8, 8, 3), np.uint8)
    with (
        SegmentationClient(transport=LocalTransport(file)) as client,
        pytest.raises(ContractError, match="token_ids"),
    ):
        client.segment([image])


def test_refusals(file, folder, tmp_path, capsys):
    with pytest.raises(NotFoundError, match="there is no file"):
        LocalTransport(tmp_path / "model.onnx")
    with pytest.raises(FailedPreconditionError, match=r"\.onnx or \.tflite"):
        LocalTransport(folder / "manifest.json")
    alone = shutil.copy(file, tmp_path / "model.onnx")
    with pytest.raises(DataLossError, match=r"manifest\.json"):
        LocalTransport(alone)
    assert main(["sentiment", "--local", str(alone), "text"]) == 1
    assert "manifest" in capsys.readouterr().err


def test_a_damaged_file_is_named(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "version")
    (copy / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(FailedPreconditionError, match=r"model\.onnx can not be loaded"):
        LocalTransport(copy / "model.onnx")


def test_a_missing_engine_is_named(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(FailedPreconditionError, match="needs the package onnxruntime"):
        LocalTransport(file)


def test_metadata_and_other_calls(file, folder):
    from clients.calls import metadata_call, status_call

    transport = LocalTransport(file)
    metadata = transport.send(metadata_call("sentiment"))
    assert set(metadata.signatures) == {"serving_default", "tensors"}
    assert metadata.model == Manifest.read(folder).model_name
    with pytest.raises(UnimplementedError, match="GetModelStatus"):
        transport.send(status_call("sentiment"))
    transport.close()


def test_the_manifest_says_how_the_model_is_called(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "version")
    replace(Manifest.read(copy), model_name="reviews").write(copy)
    from clients.calls import predict_call

    call = predict_call("sentiment", {"text": ["fine"]})
    assert LocalTransport(copy / "model.onnx").send(call).model == "reviews"
