"""Versions come, go and break, models join and leave, callers die: nobody gets a wrong answer."""

import asyncio
import itertools
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import grpc

from tests.soak.report import Finding
from tests.soak.server import (
    MODEL,
    Server,
    predict_request,
    predict_stub,
    publish,
    publish_broken,
    retire,
    running_server,
    write_config,
)

CALLERS = 16
SWAP_S = 1.0
# The first swaps fill caches and pools of memory; growth counts from then on.
SETTLED_AFTER = 5

_DOOMED_CALLER = """
import sys, grpc
from tests.soak.server import predict_request, predict_stub
with grpc.insecure_channel(sys.argv[1]) as channel:
    stub, request = predict_stub(channel), predict_request(1.0)
    while True:
        [call.result() for call in [stub.future(request) for _ in range(16)]]
"""


async def swaps(base: Path, face: str, seconds: float) -> list[Finding]:
    """Runs all of it for some seconds; every answer is compared with its version's."""
    publish(base, 1)
    publish(base, 1, "guest")
    write_config(base, MODEL)
    wrong: Counter[str] = Counter()
    answered = 0
    async with running_server(
        base, face, "--model_config_file_poll_wait_seconds=1", "--enable_batching"
    ) as server:
        await predict_once(server)
        stopping = asyncio.Event()

        async def call() -> None:
            nonlocal answered
            async with server.channel() as channel:
                stub = predict_stub(channel)
                while not stopping.is_set():
                    wrong.update(await _mistake(stub))
                    answered += 1

        callers = [asyncio.create_task(call()) for _ in range(CALLERS)]
        doomed = asyncio.create_task(_kill_callers(server, stopping))
        memory, swapped = await _swap(base, server, seconds)
        stopping.set()
        await asyncio.gather(*callers, doomed)
        alive = server.is_running
    growth = (
        max(memory[SETTLED_AFTER:], default=0) / memory[min(SETTLED_AFTER, len(memory) - 1)] - 1
    )
    return [
        Finding("swaps", f"failed or wrong of {answered} answers", _text(wrong), "0", not wrong),
        Finding("swaps", f"memory after {swapped} swaps", f"{growth:+.1%}", "+10%", growth <= 0.1),
        Finding("swaps", "server", "runs" if alive else "has ended", "runs", alive),
    ]


async def predict_once(server: Server) -> None:
    """Asks until the model answers."""
    async with server.channel() as channel:
        await predict_stub(channel)(predict_request(1.0), wait_for_ready=True, timeout=30)


async def _mistake(stub: Any) -> list[str]:
    """Asks once; returns what was wrong with the answer."""
    try:
        answer = await stub(predict_request(4.0), timeout=20)
    except grpc.aio.AioRpcError as error:
        return [f"{error.code().name}: {error.details()}"]
    expected = 2.0 + answer.model_spec.version.value
    return [] if list(answer.outputs["y"].float_val) == [expected] * 3 else ["wrong value"]


async def _swap(base: Path, server: Server, seconds: float) -> tuple[list[float], int]:
    """Publishes, retires, breaks and rolls back; returns the memory after each, and how many."""
    loop, memory = asyncio.get_running_loop(), []
    deadline = loop.time() + seconds
    served = 1
    for version in itertools.count(2):
        if loop.time() > deadline:
            return memory, version - 2
        if version % 5 == 0:
            publish_broken(base, version)  # stays aside: the version before goes on serving
            await asyncio.sleep(SWAP_S)
            retire(base, version)
        else:
            publish(base, version)
            await asyncio.sleep(SWAP_S)
            if version % 7 == 0:
                retire(base, version)  # rolled back
            else:
                retire(base, served)
                served = version
        write_config(base, MODEL, *(["guest"] if version % 2 else []))
        memory.append(server.memory_mb)
    return memory, 0


async def _kill_callers(server: Server, stopping: asyncio.Event) -> None:
    """Starts callers and ends each in the midst of its calls."""
    while not stopping.is_set():
        target = f"localhost:{server.port}"
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", _DOOMED_CALLER, target)
        await asyncio.sleep(3.0)
        process.send_signal(signal.SIGKILL)
        await process.wait()


def _text(wrong: Counter[str]) -> str:
    return "; ".join(f"{count} x {what[:120]}" for what, count in wrong.most_common(3)) or "0"
