"""The fast face as callers and attackers meet it: grpcio, a raw HTTP/2 client, broken bytes."""

import asyncio
import gzip
import random
from typing import Any

import grpc
import ngh2
import psutil
import pytest

from serving.faces.http2.connection import Limits
from serving.faces.http2.messages import framed
from serving.faces.http2.server import Http2Server

Code = grpc.StatusCode
ECHO, SLOW, COUNT, CHAT = (
    "/test.Test/Echo",
    "/test.Test/Slow",
    "/test.Test/Count",
    "/test.Test/Chat",
)


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def code_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code()


# Calls of grpcio.


async def test_unary_calls_and_metadata(channel):
    call = channel.unary_unary(ECHO)(b"hello", metadata=[("say", "hi")])
    assert await call == b"hello"
    assert dict(await call.trailing_metadata())["echo"] == "hi"


@pytest.mark.parametrize("size", [0, 1, 16_384, 70_000, 30_000_000])
async def test_messages_of_all_sizes_go_both_ways(start, size):
    unlimited = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(f"localhost:{await start()}", unlimited) as channel:
        message = random.Random(size).randbytes(size)
        assert await channel.unary_unary(ECHO)(message) == message


async def test_many_large_calls_at_once(start):
    async with grpc.aio.insecure_channel(
        f"localhost:{await start(bodies_bytes=4_000_000)}",
        [("grpc.max_receive_message_length", -1)],
    ) as channel:
        messages = [bytes([n]) * 3_000_000 for n in range(16)]
        answers = await asyncio.gather(*(channel.unary_unary(ECHO)(m) for m in messages))
        assert answers == messages


async def test_errors(channel):
    echo = channel.unary_unary(ECHO)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await echo(b"error")
    assert caught.value.code() is Code.INVALID_ARGUMENT
    assert caught.value.details() == "no \u2014 100 %\n"
    assert await code_of(echo(b"bug")) is Code.UNKNOWN
    assert await code_of(channel.unary_unary("/test.Test/Nothing")(b"")) is Code.UNIMPLEMENTED
    assert await echo(b"still here") == b"still here"


async def test_packed_requests(channel):
    call = channel.unary_unary(ECHO)(b"a" * 5000, compression=grpc.Compression.Gzip)
    assert await call == b"a" * 5000


async def test_a_message_beyond_the_limit(start):
    async with grpc.aio.insecure_channel(f"localhost:{await start(message_bytes=1000)}") as channel:
        echo = channel.unary_unary(ECHO)
        assert await code_of(echo(b"x" * 5_000_000)) is Code.RESOURCE_EXHAUSTED
        assert await echo(b"x" * 1000) == b"x" * 1000


async def test_the_deadline_cancels_the_call(channel, behaviours):
    assert await code_of(channel.unary_unary(SLOW)(b"", timeout=0.2)) is Code.DEADLINE_EXCEEDED
    await until(lambda: behaviours.slow_cancelled == 1)


async def test_a_caller_who_leaves_cancels_the_call(channel, behaviours):
    call = channel.unary_unary(SLOW)(b"")
    await until(lambda: behaviours.slow_started == 1)
    call.cancel()
    await until(lambda: behaviours.slow_cancelled == 1)


async def test_streams_of_answers(channel):
    answers = [answer async for answer in channel.unary_stream(COUNT)(b"3")]
    assert answers == [b"0", b"1", b"2"]
    assert [answer async for answer in channel.unary_stream(COUNT)(b"0")] == []


async def test_a_slow_reader_holds_up_its_stream_alone(channel):
    stream = channel.unary_stream(COUNT)(b"300")
    await stream.read()
    await asyncio.sleep(0.2)
    assert await channel.unary_unary(ECHO)(b"quick") == b"quick"
    sizes = [100_000]
    while (answer := await stream.read()) is not grpc.aio.EOF:
        sizes.append(len(answer))
    assert sizes == [100_000] * 300


async def test_streams_both_ways(channel):
    chat = channel.stream_stream(CHAT)()
    for word in (b"one", b"two"):
        await chat.write(word)
        assert await chat.read() == word.upper()
    await chat.done_writing()
    assert await chat.read() is grpc.aio.EOF
    assert await chat.code() is Code.OK


async def test_stopping_lets_calls_finish(behaviours, free_port):
    server = Http2Server(behaviours.handlers(), Limits())
    port = free_port()
    await server.listen(port)
    async with grpc.aio.insecure_channel(f"localhost:{port}") as channel:
        call = channel.unary_unary(SLOW)(b"")
        await until(lambda: behaviours.slow_started == 1)
        stopping = asyncio.create_task(server.stop(10))
        await asyncio.sleep(0.3)
        assert not stopping.done()
        assert await code_of(channel.unary_unary(ECHO)(b"new", timeout=5)) is Code.UNAVAILABLE
        behaviours.release.set()
        assert await call == b"late"
        await asyncio.wait_for(stopping, 5)


async def test_stopping_does_not_wait_for_ever(behaviours, free_port):
    server = Http2Server(behaviours.handlers(), Limits())
    port = free_port()
    await server.listen(port)
    async with grpc.aio.insecure_channel(f"localhost:{port}") as channel:
        call = channel.unary_unary(SLOW)(b"")
        await until(lambda: behaviours.slow_started == 1)
        await asyncio.wait_for(server.stop(0.2), 5)
        assert await code_of(call) is Code.UNAVAILABLE
    assert behaviours.slow_cancelled == 1


# A raw client.


class RawClient:
    """HTTP/2 by hand, for what no gRPC client sends."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.http2 = ngh2.Connection(ngh2.Role.CLIENT)
        self.events: list[Any] = []
        self.closed = False

    @classmethod
    async def open(cls, port: int) -> "RawClient":
        client = cls(*await asyncio.open_connection("127.0.0.1", port))
        client.http2.initiate_connection()
        await client.turn()
        return client

    def request(self, body: bytes = framed(b"hi"), ends: bool = True, **headers: str) -> int:
        fields = {
            ":method": "POST", ":scheme": "http", ":path": ECHO, ":authority": "test",
            "te": "trailers", "content-type": "application/grpc",
        }  # fmt: skip
        fields |= {name.replace("_", "-").replace("pseudo-", ":"): v for name, v in headers.items()}
        stream_id = self.http2.send_request([(k.encode(), v.encode()) for k, v in fields.items()])
        self.http2.send_data(stream_id, body, end_stream=ends)
        return stream_id

    async def turn(self, seconds: float = 0.2) -> None:
        """Sends what waits, reads what comes within some time."""
        try:
            while True:
                data = self.http2.data_to_send()
                if data:
                    self.writer.write(data)
                    await self.writer.drain()
                data = await asyncio.wait_for(self.reader.read(1 << 16), seconds)
                if not data:
                    self.closed = True
                    return
                self.http2.receive_data(data)
                self.events += self.http2.events()
        except ConnectionError:
            self.closed = True
        except TimeoutError:
            return

    def headers_of(self, stream_id: int) -> dict[bytes, bytes]:
        """All response headers and trailers of a stream."""
        found: dict[bytes, bytes] = {}
        for event in self.events:
            if getattr(event, "stream_id", None) == stream_id and hasattr(event, "headers"):
                found |= dict(event.headers)
        return found


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"pseudo_method": "GET"}, {b":status": b"405"}),
        ({"content_type": "text/html"}, {b":status": b"415"}),
        ({"pseudo_path": "/no/such"}, {b"grpc-status": b"12"}),
        ({"grpc_encoding": "snappy"}, {b"grpc-status": b"12"}),
        ({"grpc_timeout": "soon"}, {b"grpc-status": b"13"}),
        ({"content_type": "application/grpc+proto"}, {b"grpc-status": b"0"}),
    ],
)
async def test_requests_that_are_not_quite_grpc(start, headers, expected):
    client = await RawClient.open(await start())
    stream_id = client.request(**headers)
    await client.turn()
    assert expected.items() <= client.headers_of(stream_id).items()
    assert not client.closed


@pytest.mark.parametrize(
    "body",
    [b"", b"\0\0\0", framed(b"a") + framed(b"b"), b"\7" + framed(b"a")[1:], b"\0\0\0\0\x09a"],
)
async def test_bodies_that_are_no_single_message(start, body):
    client = await RawClient.open(await start())
    stream_id = client.request(body)
    await client.turn()
    assert client.headers_of(stream_id)[b"grpc-status"] == b"13"
    good = client.request()
    await client.turn()
    assert client.headers_of(good)[b"grpc-status"] == b"0"


async def test_a_packed_body_that_is_a_bomb(start):
    client = await RawClient.open(await start(message_bytes=100_000))
    bomb = framed(gzip.compress(bytes(50_000_000)))
    stream_id = client.request(b"\1" + bomb[1:], grpc_encoding="gzip")
    await client.turn()
    assert client.headers_of(stream_id)[b"grpc-status"] == b"8"


async def test_headers_beyond_the_limit_end_the_stream_or_connection(start):
    port = await start()
    client = await RawClient.open(port)
    for _ in range(20):
        try:
            client.request(big="x" * 60_000)
        except ngh2.NGH2Error:
            break
    await client.turn()
    other = await RawClient.open(port)
    stream_id = other.request()
    await other.turn()
    assert other.headers_of(stream_id)[b"grpc-status"] == b"0"


async def test_rapid_resets_end_the_connection(start, behaviours):
    client = await RawClient.open(await start())
    for _ in range(3000):
        stream_id = client.request(pseudo_path=SLOW)
        client.writer.write(client.http2.data_to_send())
        client.http2.reset_stream(stream_id, 8)
        client.writer.write(client.http2.data_to_send())
    async with asyncio.timeout(20):
        while not client.closed:
            await client.turn()
    assert behaviours.slow_started < 2000
    await until(lambda: behaviours.slow_cancelled == behaviours.slow_started)


async def test_a_silent_connection_is_closed(start):
    port = await start(first_request_s=0.2)
    reader, _ = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(5):
        while await reader.read(1000):
            pass


async def test_a_dead_connection_is_found_out(start):
    port = await start(keepalive_s=0.2, keepalive_timeout_s=0.2)
    client = await RawClient.open(port)
    async with asyncio.timeout(5):
        while await client.reader.read(1000):  # reads, but never answers a ping
            pass


async def test_idle_connections_cost_little(start):
    port = await start()
    await (await RawClient.open(port)).turn(0.01)
    before = psutil.Process().memory_info().rss
    clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(1000)]
    for _, writer in clients:
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
    client = await RawClient.open(port)
    stream_id = client.request()
    await client.turn()
    assert client.headers_of(stream_id)[b"grpc-status"] == b"0"
    grown = psutil.Process().memory_info().rss - before
    assert grown < 1000 * 200_000  # both ends are in this process
    for _, writer in clients:
        writer.close()


async def test_a_reader_that_never_reads_does_not_fill_the_memory(start):
    port = await start()
    client = await RawClient.open(port)
    before = psutil.Process().memory_info().rss
    for _ in range(200):
        client.request(framed(b"100000"), pseudo_path=COUNT)  # 10 GB each, if all were made
    client.writer.write(client.http2.data_to_send())
    await asyncio.sleep(1.0)
    assert psutil.Process().memory_info().rss - before < 500_000_000
    client.writer.close()


@pytest.mark.parametrize("seed", range(8))
async def test_broken_frames_harm_nobody_else(start, seed):
    port = await start()
    source = random.Random(seed)
    recorded = ngh2.Connection(ngh2.Role.CLIENT)
    recorded.initiate_connection()
    good = bytearray(recorded.data_to_send())
    for _ in range(60):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        data = bytearray(good) + source.randbytes(source.randrange(200))
        for _ in range(source.randrange(6)):
            data[source.randrange(24 if source.random() < 0.1 else len(data))] = source.randrange(
                256
            )
        writer.write(bytes(data))
        if source.random() < 0.5:
            writer.close()
    async with grpc.aio.insecure_channel(f"localhost:{port}") as channel:
        assert await channel.unary_unary(ECHO)(b"alive", timeout=10) == b"alive"
