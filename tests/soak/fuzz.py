"""Broken requests by the ten thousand, over gRPC and REST: an error each, and no harm."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import grpc

from protocol.services import GET_MODEL_METADATA, GET_MODEL_STATUS, PREDICT
from tests.soak.report import Finding
from tests.soak.server import (
    MODEL,
    Server,
    predict_request,
    predict_stub,
    publish,
    running_server,
    write_config,
)
from tests.soak.swaps import predict_once

AT_ONCE = 64
TIMEOUT_S = 20
# A broken request may by chance still be a good one.
_CODES = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
}
_HTTP_STATUSES = {200, 400, 404}
_METHODS = (PREDICT.path, PREDICT.path, GET_MODEL_STATUS.path, GET_MODEL_METADATA.path)
_JSON = b'{"signature_name": "serving_default", "instances": [[1.0, 2.0, 3.0], [4, 5, 6]]}'
_URLS = (f"/v1/models/{MODEL}:predict", f"/v1/models/{MODEL}/versions/1:predict")


async def fuzz(base: Path, face: str, count: int) -> list[Finding]:
    """Sends `count` mutations of good requests, half over gRPC, half over REST."""
    publish(base, 1)
    write_config(base, MODEL)
    async with running_server(base, face) as server:
        await predict_once(server)
        before = server.memory_mb
        over_grpc = await _over_grpc(server, count // 2)
        over_rest = await _over_rest(server, count // 2)
        growth = server.memory_mb - before
        async with server.channel() as channel:
            answer = await predict_stub(channel)(predict_request(4.0), timeout=TIMEOUT_S)
        good = list(answer.outputs["y"].float_val) == [3.0] * 3
    findings = [
        _finding("gRPC", over_grpc, {code.name for code in _CODES}),
        _finding("REST", over_rest, {str(status) for status in _HTTP_STATUSES}),
    ]
    return [
        *findings,
        Finding("fuzz", "memory", f"{growth:+.0f} MB", "+100 MB", growth < 100),
        Finding("fuzz", "a good request afterwards", str(good), "True", good),
    ]


def _finding(what: str, seen: Counter[str], expected: set[str]) -> Finding:
    odd = {name: number for name, number in seen.items() if name not in expected}
    return Finding("fuzz", f"unexpected of {seen.total()} over {what}", str(odd or 0), "0", not odd)


def mutated(data: bytes, source: random.Random) -> bytes:
    """Changes, inserts, removes or repeats some bytes."""
    result = bytearray(data)
    for _ in range(source.randint(1, 4)):
        place = source.randrange(len(result) + 1)
        kind = source.randrange(5)
        if kind == 0 and place < len(result):
            result[place] = source.randrange(256)
        elif kind == 1:
            result[place:place] = source.randbytes(source.randint(1, 8))
        elif kind == 2:
            del result[place : place + source.randint(1, 8)]
        elif kind == 3:
            result[place:place] = result[place : place + source.randint(1, 20)]
        else:
            del result[place:]
    return bytes(result)


async def _over_grpc(server: Server, count: int) -> Counter[str]:
    data = predict_request(1.0).SerializeToString()
    seen: Counter[str] = Counter()
    async with server.channel() as channel:
        calls = {path: channel.unary_unary(path) for path in set(_METHODS)}

        async def send(source: random.Random) -> None:
            try:
                await calls[source.choice(_METHODS)](mutated(data, source), timeout=TIMEOUT_S)
                seen["OK"] += 1
            except grpc.aio.AioRpcError as error:
                seen[error.code().name] += 1

        await _repeat(send, count)
    return seen


async def _over_rest(server: Server, count: int) -> Counter[str]:
    seen: Counter[str] = Counter()
    limits = aiohttp.TCPConnector(limit=AT_ONCE)
    timeout = aiohttp.ClientTimeout(TIMEOUT_S)
    base = f"http://127.0.0.1:{server.rest_port}"
    async with aiohttp.ClientSession(base, connector=limits, timeout=timeout) as session:

        async def send(source: random.Random) -> None:
            try:
                url = source.choice(_URLS)
                async with session.post(url, data=mutated(_JSON, source)) as answer:
                    await answer.read()
                    seen[str(answer.status)] += 1
            except (aiohttp.ClientError, TimeoutError) as error:
                seen[type(error).__name__] += 1

        await _repeat(send, count)
    return seen


async def _repeat(send: Callable[[random.Random], Any], count: int) -> None:
    async def some(seed: int) -> None:
        source = random.Random(seed)
        for _ in range(count // AT_ONCE):
            await send(source)

    await asyncio.gather(*(some(seed) for seed in range(AT_ONCE)))
