"""One call: what its headers say, its messages coming in, its answer going out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

from protocol.errors import (
    DeadlineExceededError,
    InternalError,
    ServiceError,
    UnimplementedError,
    UnknownError,
)
from serving.faces.http2.messages import (
    ENCODINGS,
    MessageReader,
    plain_message,
    unknown_encoding,
)
from serving.faces.http2.metadata import Header, Metadata, custom_metadata, parse_timeout
from serving.faces.rpc import Handler, Pending, status_text

log = logging.getLogger(__name__)

_GRPC = b"application/grpc"
# Bytes of a stream's answers that may wait for its reader before the next answer is made.
_WAITING_ANSWERS = 1 << 20
_KNOWN_HEADS = 1024


class HttpError(Exception):
    """The request is no gRPC at all; it gets a plain HTTP status.

    Args:
        status: of HTTP.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP status {status}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Head:
    """What the headers of a call say.

    Attributes:
        handler: The method.
        encoding: How its messages are packed, if they say that they are.
        timeout_s: After how long the caller gives up.
        metadata: What the caller added to the headers.
    """

    handler: Handler
    encoding: str
    timeout_s: float | None
    metadata: Metadata


class HeadReader:
    """Reads the headers of calls; those of one caller mostly equal each other.

    Args:
        handlers: Methods by path.
    """

    def __init__(self, handlers: Mapping[bytes, Handler]) -> None:
        self._handlers = handlers
        self._known: dict[tuple[Header, ...], Head] = {}

    def __call__(self, headers: tuple[Header, ...]) -> Head:
        """See `read_head`."""
        head = self._known.get(headers)
        if head is None:
            head = read_head(headers, self._handlers)
            if len(self._known) >= _KNOWN_HEADS:
                self._known.clear()
            self._known[headers] = head
        return head


def read_head(headers: tuple[Header, ...], handlers: Mapping[bytes, Handler]) -> Head:
    """Reads the headers of a call.

    Raises:
        HttpError: It is no gRPC call.
        UnimplementedError: No such method, or its messages are packed in an unknown way.
        InternalError: A header is malformed.
    """
    fields = dict(headers)
    if fields.get(b":method") != b"POST":
        raise HttpError(405)
    if not fields.get(b"content-type", b"").startswith(_GRPC):
        raise HttpError(415)
    handler = handlers.get(fields[b":path"])
    if handler is None:
        raise UnimplementedError("Method not found!")
    encoding = fields.get(b"grpc-encoding", b"identity").decode("ascii", "replace")
    if encoding not in ENCODINGS:
        raise unknown_encoding(encoding)
    timeout = fields.get(b"grpc-timeout")
    timeout_s = None if timeout is None else parse_timeout(timeout)
    return Head(handler, encoding, timeout_s, custom_metadata(headers))


class Connection(Protocol):
    """What a call needs of the connection that it came on."""

    peer: str
    loop: asyncio.AbstractEventLoop

    def answer(self, stream_id: int, message: bytes, trailers: Metadata) -> None:
        """Sends the one answer of a call and its good status."""

    def start_answers(self, stream_id: int) -> None:
        """Sends the headers before a stream of answers."""

    def stream_answer(self, stream_id: int, message: bytes) -> None:
        """Sends one answer of many."""

    def end(
        self, stream_id: int, code: grpc.StatusCode, text: str, trailers: Metadata, *, started: bool
    ) -> None:
        """Sends a status, after answers if they have `started`."""

    def waiting_bytes(self, stream_id: int) -> int:
        """How many bytes of answers wait for the reader."""

    async def drained(self) -> None:
        """Waits until some of them went out."""


class Call:
    """One call on its way; it is its behaviour's context.

    Args:
        connection: Where the answer goes.
        stream_id: The call's number there.
        head: What its headers say.
        limit: Most bytes of a message.

    Attributes:
        has_ended: Whether the status was sent, or the caller has gone.
    """

    __slots__ = (
        "_connection", "_deadline", "_limit", "_loop", "_messages", "_pending", "_queue", "_reader",
        "_started", "_task", "_timer", "_trailers", "buffered", "has_ended", "head", "stream_id",
        "window_is_wide",
    )  # fmt: skip

    def __init__(self, connection: Connection, stream_id: int, head: Head, limit: int) -> None:
        self.stream_id = stream_id
        self.head = head
        self.buffered = 0
        self.window_is_wide = False
        self._connection = connection
        self._limit = limit
        self._loop = connection.loop
        self._reader: MessageReader | None = None
        self._messages: list[bytes] = []
        self._queue: asyncio.Queue[bytes | None] | None = None
        self._trailers: Metadata = ()
        self._task: asyncio.Task[None] | None = None
        self._pending: Pending | None = None
        self._started = self.has_ended = False
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        if head.timeout_s is not None:
            self._deadline = self._loop.time() + head.timeout_s
            self._timer = self._loop.call_at(self._deadline, self._expire)
        if head.handler.kind == "stream_stream":
            self._queue = asyncio.Queue()
            self._run(self._answer_all(head.handler.run, _until_end(self._queue)))

    # What a behaviour may ask.

    def time_remaining(self) -> float | None:
        """See `Context`."""
        if self._deadline is None:
            return None
        return max(0.0, self._deadline - self._loop.time())

    def invocation_metadata(self) -> Metadata:
        """What the caller added to the headers."""
        return self.head.metadata

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """Sets what goes out with the status."""
        self._trailers = metadata

    def peer(self) -> str:
        """The caller's address."""
        return self._connection.peer

    # What comes in.

    def receive_all(self, data: bytes) -> None:
        """Takes the last bytes of the body, and starts a unary call that has its message.

        Raises:
            ServiceError: They are no messages that can be served.
        """
        if self._reader is None:
            message = plain_message(data, self._limit)
            if message is not None:
                self._start_on(message)
                return
        self.receive(data)
        self.end_of_requests()

    def receive(self, data: bytes) -> None:
        """Takes bytes of the body.

        Raises:
            ServiceError: They are no messages that can be served.
        """
        for message in self._messages_in(data):
            if self._queue is None:
                self._messages.append(message)
            else:
                self._queue.put_nowait(message)

    def _messages_in(self, data: bytes) -> Iterator[bytes]:
        if self._reader is None:
            self._reader = MessageReader(self.head.encoding, self._limit)
        return self._reader.feed(data)

    def end_of_requests(self) -> None:
        """Starts a unary call; tells a stream that no more comes.

        Raises:
            InternalError: The body ended within a message, or held another number than one.
        """
        if self._reader is not None:
            self._reader.check_end()
        if self._queue is not None:
            self._queue.put_nowait(None)
            return
        if len(self._messages) != 1:
            raise InternalError(f"Expected one message, got {len(self._messages)}")
        self._start_on(self._messages.pop())

    def _start_on(self, message: bytes) -> None:
        handler = self.head.handler
        if handler.start is not None:
            try:
                self._pending = handler.start(message, self, self._reply)
            except Exception as error:
                self.fail(_as_service_error(error))
        elif handler.kind == "unary_unary":
            self._run(self._answer(handler.run, message))
        elif self._queue is not None:
            self._queue.put_nowait(message)
            self._queue.put_nowait(None)
        else:
            self._run(self._answer_all(handler.run, message))

    # What goes out.

    def _run(self, work: Any) -> None:
        self._task = self._loop.create_task(work)

    async def _answer(self, run: Any, request: bytes) -> None:
        try:
            message = await run(request, self)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.fail(_as_service_error(error))
            return
        self._reply(message)

    def _reply(self, answer: bytes | ServiceError) -> None:
        if self.has_ended:
            return
        if isinstance(answer, ServiceError):
            self.fail(answer)
        else:
            self._finish()
            self._connection.answer(self.stream_id, answer, self._trailers)

    async def _answer_all(self, run: Any, request: Any) -> None:
        try:
            async for message in run(request, self):
                self._start()
                self._connection.stream_answer(self.stream_id, message)
                while self._connection.waiting_bytes(self.stream_id) > _WAITING_ANSWERS:
                    await self._connection.drained()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.fail(_as_service_error(error))
            return
        self._start()
        self._end(grpc.StatusCode.OK, "")

    def _start(self) -> None:
        if not self._started and not self.has_ended:
            self._started = True
            self._connection.start_answers(self.stream_id)

    def fail(self, error: ServiceError) -> None:
        """Ends the call with an error, unless it has ended."""
        self._end(error.status, status_text(error.message))

    def _end(self, code: grpc.StatusCode, text: str) -> None:
        if self.has_ended:
            return
        self._finish()
        self._connection.end(self.stream_id, code, text, self._trailers, started=self._started)

    def _expire(self) -> None:
        error = DeadlineExceededError("Deadline Exceeded")
        self.fail(error)
        self._stop(error)

    def drop(self) -> None:
        """Gives the call up: its caller has gone."""
        self._finish()
        self._stop(None)

    def _finish(self) -> None:
        self.has_ended = True
        if self._timer is not None:
            self._timer.cancel()

    def _stop(self, error: ServiceError | None) -> None:
        if self._pending is not None:
            self._pending.cancel(error)
        if self._task is not None and not self._task.done():
            self._task.cancel()


async def _until_end(queue: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
    while (message := await queue.get()) is not None:
        yield message


def _as_service_error(error: BaseException) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    log.error("A call ended in an unexpected error", exc_info=error)
    return UnknownError(f"Unexpected {type(error).__name__}: {error}")
