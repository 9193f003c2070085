"""Client metrics, read back from their registry."""

from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from clients import AsyncSentimentClient, ClientConfig, PredictClient, SentimentClient
from clients.metrics import ClientMetrics
from protocol import services
from protocol.errors import NotFoundError


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_requests_are_counted_and_timed(registry: CollectorRegistry, config: ClientConfig) -> None:
    metrics = ClientMetrics(registry)
    with SentimentClient(config, metrics=metrics, batch_size=1) as client:
        client.classify(["a", "b"])
    with PredictClient(config, metrics=metrics) as client:
        client.health()
    assert sample(registry, "client_requests_total", model="sentiment", code="OK") == 2
    assert sample(registry, "client_requests_total", model="", code="OK") == 1
    assert sample(registry, "client_request_seconds_count", model="sentiment") == 2


def test_failures_and_retries(
    registry: CollectorRegistry, server: Any, config: ClientConfig
) -> None:
    server.fail_times(services.PREDICT, 2, grpc.StatusCode.UNAVAILABLE)
    with SentimentClient(config, metrics=ClientMetrics(registry)) as client:
        client.classify(["good"])
        server.fail(services.PREDICT, grpc.StatusCode.NOT_FOUND)
        with pytest.raises(NotFoundError):
            client.classify(["good"])
    assert sample(registry, "client_requests_total", model="sentiment", code="OK") == 1
    assert sample(registry, "client_requests_total", model="sentiment", code="NOT_FOUND") == 1
    assert sample(registry, "client_retries_total", model="sentiment") == 2


async def test_async_client(registry: CollectorRegistry, config: ClientConfig) -> None:
    async with AsyncSentimentClient(config, metrics=ClientMetrics(registry)) as client:
        await client.classify(["good"])
    assert sample(registry, "client_requests_total", model="sentiment", code="OK") == 1


def test_needs_prometheus_client_only_when_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "prometheus_client", None)
    with pytest.raises(ImportError, match="prometheus-client"):
        ClientMetrics()
