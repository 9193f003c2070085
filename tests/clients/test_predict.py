"""The clients for any model, and that the asyncio ones are their twins."""

import inspect
from typing import Any

import numpy as np
import pytest

from clients import (
    AsyncPredictClient,
    AsyncSentimentClient,
    ClientConfig,
    PredictClient,
    SentimentClient,
)
from protocol import services
from protocol.contracts import SENTIMENT, check_signature


def public_methods(client: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(function)
        for name, function in inspect.getmembers(client, inspect.isfunction)
        if not name.startswith("_")
    }


@pytest.mark.parametrize(
    ("blocking", "twin"),
    [(PredictClient, AsyncPredictClient), (SentimentClient, AsyncSentimentClient)],
)
def test_twins(blocking: type, twin: type) -> None:
    assert public_methods(blocking) == public_methods(twin)
    assert inspect.signature(blocking) == inspect.signature(twin)
    assert all(
        inspect.iscoroutinefunction(function)
        for name, function in inspect.getmembers(twin, inspect.isfunction)
        if not name.startswith("_")
    )


def test_predict(config: ClientConfig) -> None:
    with PredictClient(config) as client:
        prediction = client.predict("sentiment", {"text": ["good", "bad"]})
    assert prediction["label"].tolist() == [b"positive", b"negative"]
    assert prediction["probability"].dtype == np.float32
    assert prediction["truncated"].tolist() == [False, False]
    assert (prediction.model, prediction.version) == ("sentiment", 3)


async def test_predict_async(config: ClientConfig) -> None:
    async with AsyncPredictClient(config) as client:
        prediction = await client.predict("sentiment", {"text": ["good", "bad"]})
    assert prediction["label"].tolist() == [b"positive", b"negative"]


def test_choices_arrive(server: Any, config: ClientConfig) -> None:
    with PredictClient(config) as client:
        client.predict(
            "sentiment", {"text": ["x"]}, signature="s", label="canary", outputs=["label"]
        )
    request = server.calls[0].request
    assert request.model_spec.signature_name == "s"
    assert request.model_spec.version_label == "canary"
    assert list(request.output_filter) == ["label"]


@pytest.mark.parametrize("method", ["predict", "metadata", "status", "health"])
def test_every_call_has_a_deadline(server: Any, config: ClientConfig, method: str) -> None:
    arguments: dict[str, tuple[Any, ...]] = {
        "predict": ("sentiment", {"text": ["good"]}),
        "metadata": ("sentiment",),
        "status": ("sentiment",),
        "health": (),
    }
    with PredictClient(config) as client:
        getattr(client, method)(*arguments[method])
        getattr(client, method)(*arguments[method], timeout_s=3.0)
    assert 9 < server.calls[0].remaining_s < 10.1
    assert 2 < server.calls[1].remaining_s < 3.1


def test_metadata(config: ClientConfig) -> None:
    with PredictClient(config) as client:
        metadata = client.metadata("sentiment")
    assert (metadata.model, metadata.version) == ("sentiment", 3)
    for spec in SENTIMENT.signatures:
        check_signature(spec, metadata.signatures[spec.name])


async def test_metadata_status_and_health_async(config: ClientConfig) -> None:
    async with AsyncPredictClient(config) as client:
        assert set((await client.metadata("sentiment")).signatures) == {
            "serving_default",
            "tensors",
        }
        assert (await client.status("sentiment"))[0].state == "AVAILABLE"
        assert await client.health() == "SERVING"


def test_status_and_health(server: Any, config: ClientConfig) -> None:
    with PredictClient(config) as client:
        newest, oldest = client.status("sentiment", version=3)
        assert client.health("sentiment") == "SERVING"
    assert (newest.version, newest.state, newest.error) == (3, "AVAILABLE", "")
    assert (oldest.version, oldest.state, oldest.error) == (2, "END", "out of memory")
    assert server.calls[0].request.model_spec.version.value == 3
    assert server.calls[1].method is services.HEALTH_CHECK
