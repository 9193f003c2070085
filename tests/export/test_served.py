"""From a trained model to a caller: export, repository, server and client together."""

import time

import numpy as np
import pytest

from clients import SentimentClient
from clients.demo.server_process import ServerProcess
from clients.predict import PredictClient
from export.repository import ModelRepository
from export.sentiment import SAMPLE_TEXTS

pytestmark = pytest.mark.e2e

START_TIMEOUT_S = 120.0


@pytest.fixture
def repository(exported, tmp_path):
    repository = ModelRepository(tmp_path / "repository")
    repository.publish("sentiment", exported)
    return repository


@pytest.mark.parametrize("runtime", ["onnx", "saved_model"])
def test_callers_get_what_keras_says(repository, tiny_model, runtime):
    texts = np.array([text.encode() for text in SAMPLE_TEXTS], object)
    expected = tiny_model.run_signature({"text": texts})
    flags = [f"--runtime={runtime}", "--enable_batching"]
    with ServerProcess(repository.path, ["sentiment"], flags) as server:
        server.wait_until_serving(START_TIMEOUT_S)
        with SentimentClient(server.target) as client:
            results = client.classify(list(SAMPLE_TEXTS))
        assert server.stop() == 0
    for row, result in enumerate(results):
        assert result.text == SAMPLE_TEXTS[row]
        assert result.label == expected["label"][row].decode()
        assert result.tokens == expected["tokens"][row]
        assert result.truncated == expected["truncated"][row]
        assert result.probability == pytest.approx(expected["probability"][row].max(), abs=1e-4)


def test_publishing_and_rolling_back_reach_a_running_server(repository, exported):
    with ServerProcess(repository.path, ["sentiment"], []) as server:
        server.wait_until_serving(START_TIMEOUT_S)
        with PredictClient(server.target) as client:
            assert answering_version(client) == 1
            repository.publish("sentiment", exported)
            wait_for_version(client, 2)
            repository.rollback("sentiment")
            wait_for_version(client, 1)


def answering_version(client):
    """Every call must be answered, whichever version does it."""
    return client.predict("sentiment", {"text": np.array(["good"], object)}).version


def wait_for_version(client, version):
    deadline = time.monotonic() + 60.0
    while answering_version(client) != version:
        assert time.monotonic() < deadline, f"version {version} never answered"
