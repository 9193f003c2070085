"""Ten thousand requests gone wrong: each gets an orderly answer, and the server stays well.

Half of them are valid requests with some bytes changed, half are well-formed messages that ask
for something odd. All come from a seed.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from protocol import messages, services

REQUESTS = 10_000
CONCURRENCY = 64

# What a request may be answered with. INTERNAL and UNKNOWN would be faults of the server.
ORDERLY = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
}


@pytest.fixture
async def running(model_folders, start_server) -> Any:
    model_folders.half_plus_two(1)
    model_folders.lookup()
    model_folders.sentiment()
    config = model_folders.config_file("half", "lookup", "sentiment")
    return await start_server(model_config_file=str(config), enable_batching=True)


@pytest.fixture
def valid(make_request) -> list[Any]:
    return [
        make_request("half", {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}),
        make_request("half", {"x": np.ones((1, 3), np.float32)}, version=1, output_filter=("y",)),
        make_request("lookup", {"index": np.array([0, 1, 2])}, signature="tensors"),
        make_request("sentiment", {"text": ["good film", "the film was bad"]}),
        make_request("sentiment", {"token_ids": np.array([[2, 3]], np.int32)}, signature="tensors"),
    ]


def damaged(rng: random.Random, request: Any) -> bytes:
    """Changes, removes, repeats or adds some bytes of a message."""
    data = bytearray(request.SerializeToString())
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.randint(1, 8))
        match rng.randrange(5):
            case 0:
                data[start:end] = rng.randbytes(end - start)
            case 1:
                del data[start:end]
            case 2:
                data[start:start] = rng.randbytes(rng.randint(1, 8))
            case 3:
                data[start:start] = data[start:end]
            case 4 if start < len(data):
                data[start] ^= 1 << rng.randrange(8)
    return bytes(data)


def odd(rng: random.Random, request: Any) -> bytes:
    """Asks for something odd in a well-formed message."""
    request = type(request).FromString(request.SerializeToString())
    text = rng.choice(["", "x", "half", "serving_default", "y", "\0", "é" * 700, "../../1"])
    if rng.randrange(2):
        make_odd_choice(rng, request, text)
    else:
        alias = rng.choice(list(request.inputs))
        make_odd_tensor(rng, request.inputs[alias])
        if rng.randrange(4) == 0:
            request.inputs[text].CopyFrom(request.inputs[alias])
    return bytes(request.SerializeToString())


def make_odd_choice(rng: random.Random, request: Any, text: str) -> None:
    match rng.randrange(7):
        case 0:
            request.model_spec.name = text
        case 1:
            request.model_spec.signature_name = text
        case 2:
            request.model_spec.version.value = rng.choice([-1, 0, 2, 2**63 - 1, -(2**63)])
        case 3:
            request.model_spec.version_label = text
        case 4:
            request.ClearField("model_spec")
        case 5:
            request.output_filter.extend(rng.choices(["y", "z", "", text], k=rng.randint(1, 3)))
        case 6:
            request.ClearField("inputs")


def make_odd_tensor(rng: random.Random, tensor: Any) -> None:
    match rng.randrange(6):
        case 0:
            tensor.dtype = rng.randint(0, 31)
        case 1:
            tensor.tensor_shape.dim.add().size = rng.choice([0, 1, 2, -1, 2**31, 2**62])
        case 2:
            tensor.tensor_shape.dim[0].size = rng.choice([0, 1, 5, -1, 2**40, 2**63 - 1])
        case 3:
            tensor.tensor_content = rng.randbytes(rng.randint(0, 64))
        case 4:
            tensor.tensor_shape.unknown_rank = True
        case 5:
            tensor.string_val.extend([rng.randbytes(20), b""])
            tensor.int64_val.extend([2**62, -1])
            tensor.float_val.extend([float("nan"), float("inf")])


def mutated(valid: list[Any]) -> Iterator[bytes]:
    rng = random.Random(20_240_229)
    for number in range(REQUESTS):
        mutate = damaged if number % 2 else odd
        yield mutate(rng, rng.choice(valid))


async def test_mutated_requests_leave_the_server_answering(running, valid) -> None:
    raw = running.channel.unary_unary(services.PREDICT.path)
    requests = mutated(valid)
    codes: Counter[grpc.StatusCode] = Counter()
    disorderly: list[str] = []

    async def send_all() -> None:
        for data in requests:
            try:
                messages.PredictResponse.FromString(await raw(data, timeout=30))
                codes[grpc.StatusCode.OK] += 1
            except grpc.aio.AioRpcError as error:
                codes[error.code()] += 1
                if error.code() not in ORDERLY or not error.details():
                    disorderly.append(f"{error.code()} {error.details()} for {data!r}")

    await asyncio.gather(*(send_all() for _ in range(CONCURRENCY)))
    assert not disorderly, "\n".join(disorderly[:5])
    assert codes.total() == REQUESTS
    assert min(codes[code] for code in ORDERLY) > 20, codes
    assert codes[grpc.StatusCode.INVALID_ARGUMENT] > REQUESTS / 4

    outputs = await running.outputs("sentiment", {"text": ["good film", "bad film"]})
    assert outputs["label"].tolist() == [b"positive", b"negative"]
    outputs = await running.outputs("half", {"x": np.ones((1, 3), np.float32)})
    assert outputs["y"].tolist() == [[2.5] * 3]
    page = running.server.metrics.render().decode()
    assert "serving_in_flight_requests 0.0" in page
    assert page.count("serving_requests_total{") < 50
