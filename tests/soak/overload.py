"""Five times as many requests as the server can take: those let in are quick, others refused."""

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from protocol.tensors import to_tensor_proto
from tests.serving.graphs import save_graph, slow_graph
from tests.soak.report import Finding
from tests.soak.server import predict_request, predict_stub, running_server, write_config

SECONDS = 8.0
OVERLOAD = 5
ROUNDS = 60  # of the slow model: some milliseconds
QUEUE = 20  # requests
_BATCHING = f"""
max_batch_size {{ value: 1 }} max_enqueued_batches {{ value: {QUEUE} }}
num_batch_threads {{ value: 1 }}
"""


async def overload(base: Path, face: str) -> list[Finding]:
    """Measures capacity, then sends five times as much, evenly spread."""
    save_graph(base / "slow" / "1", slow_graph())
    write_config(base, "slow")
    (base / "batching").write_text(_BATCHING)
    flags = ("--enable_batching", f"--batching_parameters_file={base / 'batching'}")
    async with running_server(base, face, *flags) as server, server.channel() as channel:
        stub = predict_stub(channel)
        one_s = await _duration(stub)
        admitted, refused, other = await _send(stub, OVERLOAD / one_s)
    # Those before it in the queue, and it; thrice, since callers share the machine with the model.
    bound_s = 3 * (QUEUE + 2) * one_s
    p99_s, refused_ms = float(np.percentile(admitted, 99)), np.percentile(refused or [0], 50) * 1e3
    return [
        Finding("overload", f"p99 of {len(admitted)} admitted", f"{p99_s * 1e3:.0f} ms",
                f"{bound_s * 1e3:.0f} ms", p99_s <= bound_s),
        Finding("overload", f"median of {len(refused)} refusals", f"{refused_ms:.1f} ms", "10 ms",
                bool(refused) and refused_ms <= 10),
        Finding("overload", "other errors", str(other), "0", other == 0),
    ]  # fmt: skip


def _request() -> Any:
    request = predict_request(0, "slow")
    request.inputs["x"].CopyFrom(to_tensor_proto(np.full(1, ROUNDS, np.float32)))
    return request


async def _duration(stub: Any) -> float:
    """Seconds that one request keeps the model busy."""
    await stub(_request(), wait_for_ready=True)
    started = time.perf_counter()
    for _ in range(30):
        await stub(_request())
    return (time.perf_counter() - started) / 30


async def _send(stub: Any, per_second: float) -> tuple[list[float], list[float], int]:
    """Sends at a steady rate; returns the seconds of admitted and refused ones, and errors."""
    admitted: list[float] = []
    refused: list[float] = []
    other = 0

    async def ask() -> None:
        nonlocal other
        started = time.perf_counter()
        try:
            await stub(_request(), timeout=30)
            admitted.append(time.perf_counter() - started)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                refused.append(time.perf_counter() - started)
            else:
                other += 1

    begun, sent, tasks = time.perf_counter(), 0, set()
    while (now := time.perf_counter() - begun) < SECONDS:
        while sent < now * per_second:
            tasks.add(asyncio.create_task(ask()))
            sent += 1
        await asyncio.sleep(0.002)
    await asyncio.gather(*tasks)
    return admitted, refused, other
