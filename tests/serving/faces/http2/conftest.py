"""A server of a few small methods on the fast face."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from protocol.errors import InvalidRequestError
from serving.faces.http2.connection import Limits
from serving.faces.http2.server import Http2Server
from serving.faces.rpc import Handler

ECHO, SLOW, COUNT, CHAT = (
    "/test.Test/Echo",
    "/test.Test/Slow",
    "/test.Test/Count",
    "/test.Test/Chat",
)


class Behaviours:
    """What the server under test does."""

    def __init__(self) -> None:
        self.slow_started = self.slow_cancelled = 0
        self.release = asyncio.Event()

    def handlers(self) -> list[Handler]:
        return [
            Handler(ECHO, "unary_unary", self.echo),
            Handler(SLOW, "unary_unary", self.slow),
            Handler(COUNT, "unary_stream", self.count),
            Handler(CHAT, "stream_stream", self.chat),
        ]

    async def echo(self, data: bytes, context: Any) -> bytes:
        if data == b"error":
            raise InvalidRequestError("no \u2014 100 %\n")
        if data == b"bug":
            raise ZeroDivisionError("oh")
        context.set_trailing_metadata(
            [("echo", dict(context.invocation_metadata()).get("say", "-"))]
        )
        return data

    async def slow(self, data: bytes, context: Any) -> bytes:
        self.slow_started += 1
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.slow_cancelled += 1
            raise
        return b"late"

    async def count(self, data: bytes, context: Any) -> AsyncIterator[bytes]:
        for number in range(int(data)):
            yield b"x" * 100_000 if int(data) > 100 else str(number).encode()

    async def chat(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request.upper()


@pytest.fixture
def behaviours() -> Behaviours:
    return Behaviours()


@pytest.fixture
async def start(behaviours, free_port):
    """Starts servers with some limits; returns their ports."""
    servers = []

    async def start(**limits: Any) -> int:
        server = Http2Server(behaviours.handlers(), Limits(**limits))
        port = free_port()
        await server.listen(port)
        servers.append(server)
        return port

    yield start
    for server in servers:
        await server.stop(0)


@pytest.fixture
async def channel(start):
    async with grpc.aio.insecure_channel(f"localhost:{await start()}") as channel:
        yield channel


@pytest.fixture
def run_apart() -> Any:
    """Runs a command beside the event loop; returns what it printed."""

    async def run(command: list[str], **options: Any) -> str:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, **options
        )
        output, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, errors.decode()
        return output.decode()

    return run
