import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from protocol.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    UnavailableError,
)
from serving.core import predictor as module
from serving.core.data_plane import DataPlane
from serving.core.manager import ModelChoice
from serving.core.predictor import PredictCall

X = {"x": np.ones((1, 3), np.float32)}


@pytest.fixture
def data_plane(running) -> DataPlane:
    return running.server.data_plane


def call(model: str, inputs: Any, **values: Any) -> PredictCall:
    return PredictCall(ModelChoice(model), lambda spec: inputs, **values)


def texts(size: int) -> dict[str, Any]:
    return {"text": np.array([b"good " * (size // 5)], dtype=object)}


async def test_predict(data_plane: DataPlane) -> None:
    prediction = await data_plane.predict(call("half", X))
    assert prediction.id == ("half", 1)
    assert prediction.signature == "serving_default"
    assert prediction.outputs["y"].tolist() == [[2.5] * 3]


async def test_inputs_are_read_once_the_signature_is_known(data_plane: DataPlane) -> None:
    seen = []

    def read_inputs(spec: Any) -> Any:
        seen.append(spec.name)
        return X

    with pytest.raises(NotFoundError):
        await data_plane.predict(PredictCall(ModelChoice("halb"), read_inputs))
    await data_plane.predict(PredictCall(ModelChoice("half"), read_inputs, signature="tensors"))
    assert seen == ["tensors"]


async def test_a_deadline_in_the_past_does_not_run(data_plane: DataPlane) -> None:
    past = asyncio.get_running_loop().time() - 1
    with pytest.raises(DeadlineExceededError):
        await data_plane.predict(call("half", X, deadline=past))


async def test_a_fault_of_ours_is_internal(data_plane: DataPlane, running) -> None:
    def read_inputs(spec: Any) -> Any:
        raise ZeroDivisionError("oops")

    with pytest.raises(InternalError, match="ZeroDivisionError: oops"):
        await data_plane.predict(PredictCall(ModelChoice("half"), read_inputs))
    assert await data_plane.predict(call("half", X))


@pytest.mark.parametrize(("size", "thread"), [(100, "MainThread"), (100_000, "prepare")])
async def test_much_text_is_prepared_in_a_thread(
    data_plane: DataPlane, running, monkeypatch, size, thread
) -> None:
    handle = running.server.manager.find(ModelChoice("sentiment"))
    prepare = handle.servable.prepare
    threads: list[str] = []

    def watched(signature: str, inputs: Any) -> Any:
        threads.append(threading.current_thread().name.split("_")[0])
        return prepare(signature, inputs)

    monkeypatch.setattr(handle.servable, "prepare", watched)
    await data_plane.predict(call("sentiment", texts(size)))
    assert threads == [thread]


def test_many_strings_are_much_text() -> None:
    assert module._is_large([np.array([b""] * 1000, dtype=object)])
    assert module._is_large([np.array([b"a" * 9000], dtype=object)] * 2)
    assert not module._is_large([np.array([b"a"] * 10, dtype=object)])
    assert not module._is_large([])


async def test_absurdly_many_strings_are_refused(data_plane: DataPlane) -> None:
    inputs = {"text": np.full(2**20 + 1, b"", dtype=object)}
    with pytest.raises(InvalidRequestError, match="at most 1048576 strings"):
        await data_plane.predict(call("sentiment", inputs))


async def test_large_requests_in_preparation_are_bounded(
    data_plane: DataPlane, monkeypatch
) -> None:
    monkeypatch.setattr(module, "_LARGE_INPUTS_WAITING", 2)
    calls = [data_plane.predict(call("sentiment", texts(50_000))) for _ in range(6)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    refused = [result for result in results if isinstance(result, UnavailableError)]
    assert len(refused) == 4


async def test_a_cancelled_call_releases_its_version(data_plane: DataPlane, running) -> None:
    handle = running.server.manager.find(ModelChoice("sentiment"))
    task = asyncio.ensure_future(data_plane.predict(call("sentiment", texts(100_000))))
    await asyncio.wait({task}, timeout=0)
    assert handle.users == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert handle.users == 0
    assert 'code="CANCELLED"' in running.server.metrics.render().decode()


async def test_lanes_go_with_their_version(data_plane: DataPlane, running, model_folders) -> None:
    await data_plane.predict(call("half", X))
    assert len(data_plane.predictor._lanes) == 1
    model_folders.half_plus_two(2)
    await running.until(lambda: running.state("half", 1) == 50)
    assert len(data_plane.predictor._lanes) == 0
