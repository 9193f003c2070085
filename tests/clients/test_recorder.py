"""Drift seen from the caller's side, against a server that knows nothing of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from clients import ClientConfig, PredictClient, SentimentClient
from clients.recorder import DriftRecorder
from protocol.drift import FEWEST, Distribution, Reference
from protocol.tokenizer import WordTokenizer
from protocol.version_folder import Manifest
from tests.clients.conftest import VERSION

REFERENCE = Reference(
    {
        "words": Distribution.of(np.array([1, 2, 3] * 100)),
        "class": Distribution.of(np.array(["negative", "positive"])),
    }
)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "sentiment" / str(VERSION)
    WordTokenizer(["good", "film"], [(r"\s", " ")], 9, 5).save(folder / "assets")
    manifest = Manifest("sentiment", "sentiment", "now", reference=REFERENCE)
    manifest.write(folder)
    return tmp_path


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    known = {"model": "sentiment", "version": str(VERSION)}
    return registry.get_sample_value(name, known | labels)


def test_a_typed_client_shows_drift(repository: Path, registry: Any, config: ClientConfig) -> None:
    recorder = DriftRecorder(repository, registry=registry)
    with SentimentClient(config, recorder=recorder) as client:
        client.classify(["a good film of the year"] * FEWEST)
    assert value(registry, "serving_feature_observations", feature="words") == FEWEST
    assert value(registry, "serving_feature_mean", feature="words") == 6
    index = value(registry, "serving_drift_psi", feature="words")
    assert index is not None
    assert index > 0.2
    labels = {"feature": "class", "class": "positive"}
    assert value(registry, "serving_class_share", **labels) == 1
    assert b'serving_class_share{class="other"' in generate_latest(registry)


def test_a_share_of_the_requests(repository: Path, registry: Any, config: ClientConfig) -> None:
    numbers = iter([0.1, 0.6, 0.2, 0.5, 0.49])
    recorder = DriftRecorder(repository, 0.5, registry, lambda: next(numbers))
    with PredictClient(config) as client:
        for _ in range(5):
            inputs = {"text": ["good"]}
            recorder.record(inputs, client.predict("sentiment", inputs))
    assert value(registry, "serving_feature_observations", feature="words") == 3
    with pytest.raises(ValueError, match="rate: expected 0 to 1, got 2"):
        DriftRecorder(repository, 2)


def test_what_is_not_known_is_not_watched(
    tmp_path: Path, registry: Any, config: ClientConfig
) -> None:
    recorder = DriftRecorder(tmp_path, registry=registry)
    with SentimentClient(config, recorder=recorder) as client:
        assert client.classify_one("good").label == "positive"
    assert value(registry, "serving_feature_observations", feature="words") is None


def test_a_request_that_can_not_be_read_is_left_out(
    repository: Path, registry: Any, config: ClientConfig
) -> None:
    recorder = DriftRecorder(repository, registry=registry)
    with PredictClient(config) as client:
        prediction = client.predict("sentiment", {"text": ["good"]})
    recorder.record({"words": ["good"]}, prediction)
    assert value(registry, "serving_feature_observations", feature="words") == 0
