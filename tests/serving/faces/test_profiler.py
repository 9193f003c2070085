"""The profiler's methods, with TensorFlow's own client."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from serving.faces.profiler import ProfilerFace

SERVICE = "/tensorflow.ProfilerService"


async def test_without_a_saved_model_there_is_no_profiler(running, monkeypatch) -> None:
    monkeypatch.setattr(running.server._profiler, "_find_address", lambda: None)
    call: Any = running.channel.unary_unary(f"{SERVICE}/Monitor")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "once a SavedModel has been loaded" in caught.value.details()


async def test_the_profiler_can_be_switched_off(model_folders, start_server) -> None:
    model_folders.half_plus_two(1)
    base_path = str(model_folders.model("half"))
    running = await start_server(
        model_name="half", model_base_path=base_path, enable_profiler=False
    )
    call: Any = running.channel.unary_unary(f"{SERVICE}/Monitor")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_tensorflow_answers(tmp_path: Path, start_server) -> None:
    tf = pytest.importorskip("tensorflow")
    from tests.serving.saved_models import write_half_plus_two

    base_path = write_half_plus_two(tmp_path / "half" / "1").parent
    running = await start_server(model_name="half", model_base_path=str(base_path))
    trace = asyncio.create_task(
        asyncio.to_thread(
            tf.profiler.experimental.client.trace,
            f"localhost:{running.port}",
            str(tmp_path / "profile"),
            duration_ms=500,
            num_tracing_attempts=1,
        )
    )
    while not trace.done():
        await running.predict("half", {"x": np.float32([[1]])})
    await trace
    assert [path.suffix for path in tmp_path.glob("profile/plugins/profile/*/*.pb")] == [".pb"]


async def test_a_face_that_was_never_asked_can_be_closed() -> None:
    await ProfilerFace(lambda: None).close()
