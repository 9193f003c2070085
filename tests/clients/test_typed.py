"""What typed clients share: limits, checked answers, errors within scripts."""

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

from clients import ClientConfig, Prediction
from clients.calls import ModelMetadata
from clients.typed import (
    REQUEST_BYTES,
    AsyncTaskClient,
    Script,
    ServedModel,
    TaskClient,
    TaskSpec,
    check_output,
    check_served,
)
from protocol import services
from protocol.contracts import FACE, SENTIMENT, TensorSpec
from protocol.errors import ContractError, NotFoundError

SPEC = TaskSpec(SENTIMENT, batch_size=7)


class Blocking(TaskClient):
    spec = SPEC

    def run(self, script: Script[Any]) -> Any:
        return self._run(script, None)

    @property
    def served(self) -> ServedModel:
        return self._served


class Asynchronous(AsyncTaskClient):
    spec = SPEC

    async def run(self, script: Script[Any]) -> Any:
        return await self._run(script, None)

    @property
    def served(self) -> ServedModel:
        return self._served


@pytest.mark.parametrize("client", [Blocking, Asynchronous])
def test_defaults_come_from_the_task(client: Any) -> None:
    served = client().served
    assert (served.name, served.batch_size) == ("sentiment", 7)
    assert (served.request_bytes, served.item_bytes) == (REQUEST_BYTES, None)


def test_a_message_limit_bounds_requests_and_items() -> None:
    limit = 1 << 20
    served = Blocking(ClientConfig(max_message_bytes=limit)).served
    assert served.item_bytes == served.request_bytes == limit - (64 << 10)
    assert Blocking(ClientConfig(max_message_bytes=100)).served.item_bytes == 0
    large = Blocking(ClientConfig(max_message_bytes=1 << 30)).served
    assert large.request_bytes == REQUEST_BYTES < (large.item_bytes or 0)


def greeting(served: ServedModel) -> Script[str]:
    """Asks a first time, and a second time if that fails."""
    try:
        yield from served.ask({"text": ["first"]}, 1)
    except NotFoundError as error:
        prediction = yield from served.ask({"text": ["good"]}, 1)
        return f"{error}, then {prediction['label'][0].decode()}"
    return "no error"


def test_scripts_see_the_errors_of_their_calls(server: Any, config: ClientConfig) -> None:
    server.fail_times(services.PREDICT, 1, grpc.StatusCode.NOT_FOUND)
    with Blocking(config) as client:
        assert client.run(greeting(client.served)) == "try again, then positive"
        assert client.run(greeting(client.served)) == "no error"


def test_scripts_see_the_errors_of_their_calls_async(server: Any, config: ClientConfig) -> None:
    async def run() -> None:
        async with Asynchronous(config) as client:
            assert await client.run(greeting(client.served)) == "try again, then positive"

    server.fail_times(services.PREDICT, 1, grpc.StatusCode.NOT_FOUND)
    asyncio.run(run())


def test_a_script_that_asks_nothing(config: ClientConfig) -> None:
    def silent() -> Script[int]:
        return 5
        yield

    with Blocking(config) as client:
        assert client.run(silent()) == 5


def prediction(array: np.ndarray[Any, Any]) -> Prediction:
    return Prediction({"embedding": array}, "face", 1, "serving_default")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 127), np.float32),
        np.zeros((1, 128), np.float32),
        np.zeros((2, 128), np.float64),
        np.zeros((2, 128, 1), np.float32),
    ],
)
def test_sizes_that_the_contract_fixes_are_checked(array: np.ndarray[Any, Any]) -> None:
    spec = FACE.signature("serving_default").output("embedding")
    check_output(prediction(np.zeros((2, 128), np.float32)), spec, 2)
    with pytest.raises(ContractError, match=r"expected float32\[\?,128\] with 2 rows"):
        check_output(prediction(array), spec, 2)


def test_a_missing_output_is_named() -> None:
    with pytest.raises(ContractError, match="without output 'x'; its outputs: embedding"):
        check_output(prediction(np.zeros(1)), TensorSpec("x", "int32", (None,)), 1)


def test_a_missing_signature_is_named() -> None:
    with pytest.raises(ContractError, match="has no signature 'tensors'; it has: none"):
        check_served(FACE, "tensors", ModelMetadata("face", 1, {}))
