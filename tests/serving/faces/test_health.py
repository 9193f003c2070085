import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protocol.services import MODEL_SERVICE, PREDICTION_SERVICE

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@pytest.fixture
async def running(model_folders, start_server) -> Any:
    model_folders.half_plus_two(1)
    model_folders.broken(1, name="broken")
    config = model_folders.config_file("half", "broken")
    return await start_server(model_config_file=str(config))


@pytest.fixture
def stub(running) -> Any:
    """The official stub."""
    return health_pb2_grpc.HealthStub(running.channel)


async def check(stub: Any, service: str) -> int:
    response = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
    return response.status


@pytest.mark.parametrize(
    "service",
    ["", "ModelService", "PredictionService", MODEL_SERVICE, PREDICTION_SERVICE, "half"],
)
async def test_what_works_is_serving(stub, service) -> None:
    assert await check(stub, service) == SERVING


async def test_a_model_that_does_not_load_is_not_serving(stub) -> None:
    assert await check(stub, "broken") == NOT_SERVING


async def test_an_unknown_service_is_not_found(stub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await check(stub, "halb")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "half" in (caught.value.details() or "")


async def test_list_tells_everything(stub) -> None:
    response = await stub.List(health_pb2.HealthListRequest(), timeout=10)
    statuses = {name: entry.status for name, entry in response.statuses.items()}
    assert statuses["half"] == SERVING
    assert statuses["broken"] == NOT_SERVING
    assert statuses[""] == SERVING


async def test_watch_follows_a_model(running, stub, model_folders) -> None:
    stream = stub.Watch(health_pb2.HealthCheckRequest(service="broken"), timeout=20)
    assert (await stream.read()).status == NOT_SERVING
    model_folders.half_plus_two(2, name="broken")
    assert (await stream.read()).status == SERVING
    running.server.data_plane.drain()
    assert (await stream.read()).status == NOT_SERVING
    assert await check(stub, "") == NOT_SERVING
    stream.cancel()


async def test_watch_of_an_unknown_service_waits_for_it(stub) -> None:
    stream = stub.Watch(health_pb2.HealthCheckRequest(service="new"), timeout=20)
    assert (await stream.read()).status == SERVICE_UNKNOWN
    stream.cancel()


async def test_stopping_ends_a_watch(running, stub) -> None:
    stream = stub.Watch(health_pb2.HealthCheckRequest(service=""), timeout=20)
    assert (await stream.read()).status == SERVING
    stopping = asyncio.ensure_future(running.server.stop(drain_timeout_s=5))
    assert (await stream.read()).status == NOT_SERVING
    assert await stream.read() is grpc.aio.EOF
    assert await asyncio.wait_for(stopping, 3)
