"""One connection: bytes to HTTP/2 events to calls, and their answers back to bytes.

libnghttp2 does all of HTTP/2. It is fed whatever the transport brings, and what it has to send is
written once in each turn of the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

import grpc
import ngh2

from protocol.errors import ServiceError
from serving.faces.http2.call import Call, HeadReader, HttpError
from serving.faces.http2.messages import ENCODINGS, framed
from serving.faces.http2.metadata import Metadata, encoded_metadata, status_trailers
from serving.faces.rpc import status_text

log = logging.getLogger(__name__)

_CONTENT = (b"content-type", b"application/grpc")
_HEADERS = (
    (b":status", b"200"),
    _CONTENT,
    (b"grpc-accept-encoding", ",".join(ENCODINGS).encode()),
)
_GOOD = ((b"grpc-status", b"0"),)

_CONNECTION_WINDOW = 2**31 - 1
_STREAM_WINDOW = 256 * 1024
_WIDE_STREAM_WINDOW = 4 * 1024 * 1024
# Bytes of answers that may wait for a slow reader; then nothing more is read from it.
_WAITING_ANSWERS = 64 * 1024 * 1024
_WRITE_AT_ONCE = 1 << 20

_STREAM_GONE = (ngh2.StreamProtocolError, ngh2.ConnectionClosingError, ngh2.ConnectionStateError)


@dataclass(frozen=True)
class Limits:
    """What one caller may use.

    Attributes:
        message_bytes: Most bytes of a message.
        streams: Calls at once on a connection.
        header_bytes: Most bytes of a call's headers.
        bodies_bytes: Bytes of unfinished messages of all connections together; beyond that the
            oldest call alone may go on.
        first_request_s: A connection that is silent for so long at its start is closed.
        keepalive_s: A connection silent for so long is asked whether it lives; None for never.
        keepalive_timeout_s: How long its answer may take.
    """

    message_bytes: int = 2**31 - 1
    streams: int = 1000
    header_bytes: int = 16 * 1024
    bodies_bytes: int = 1 << 30
    first_request_s: float = 20.0
    keepalive_s: float | None = 7200.0
    keepalive_timeout_s: float = 20.0


@dataclass
class Shared:
    """What all connections of a server share.

    Attributes:
        read_head: Reads the headers of a call.
        limits: What one caller may use.
        connections: Those that are open.
        buffered: Bytes of unfinished messages.
        held: Calls that may not send more of their body for now, oldest first.
        empty: Set while no connection is open.
    """

    read_head: HeadReader
    limits: Limits
    connections: set[ServerConnection] = field(default_factory=set)
    buffered: int = 0
    held: dict[Call, tuple[ServerConnection, int]] = field(default_factory=dict)
    empty: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self, amount: int) -> None:
        """Counts down, and lets held calls go on as far as there is room."""
        self.buffered -= amount
        while self.held and self.buffered <= self.limits.bodies_bytes:
            call = next(iter(self.held))
            connection, unread = self.held.pop(call)
            connection.acknowledge(call.stream_id, unread)


class ServerConnection(asyncio.Protocol):
    """A connection as the event loop drives it.

    Args:
        shared: What all connections share.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._limits = shared.limits
        self.loop = asyncio.get_running_loop()
        self._http2 = ngh2.Connection(
            ngh2.Role.SERVER,
            ngh2.Configuration(
                auto_window_update=False, max_inbound_header_list_size=self._limits.header_bytes
            ),
        )
        self._calls: dict[int, Call] = {}
        self._endings: list[int] = []  # streams to reset once their answer went out
        self._transport: Any = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._flushing = self._reading_stopped = self._draining = False
        self._start_timer: asyncio.TimerHandle | None = None
        self._silence_timer: asyncio.TimerHandle | None = None
        self._heard = 0.0
        self.peer = ""

    # The event loop's side.

    def connection_made(self, transport: Any) -> None:
        """Opens HTTP/2."""
        self._transport = transport
        self.peer = _peer(transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            log.info("%s did not negotiate h2", self.peer)
            transport.close()
            return
        self._shared.connections.add(self)
        self._shared.empty.clear()
        self._http2.initiate_connection(
            {
                ngh2.Setting.MAX_CONCURRENT_STREAMS: self._limits.streams,
                ngh2.Setting.INITIAL_WINDOW_SIZE: _STREAM_WINDOW,
                ngh2.Setting.MAX_HEADER_LIST_SIZE: self._limits.header_bytes,
            }
        )
        self._http2.set_local_window_size(_CONNECTION_WINDOW)
        start_s = self._limits.first_request_s
        self._start_timer = self.loop.call_later(start_s, self._check_start)
        self._watch_silence()
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Reads what came."""
        self._heard = self.loop.time()
        try:
            self._http2.receive_data(data)
            event: Any
            for event in self._http2.events():
                kind = type(event)
                if kind is ngh2.DataReceived:
                    self._on_data(event.stream_id, event.data, event.end_stream)
                elif kind is ngh2.RequestReceived:
                    self._on_request(event.stream_id, event.headers, event.end_stream)
                elif kind is ngh2.StreamClosed:
                    self._forget(event.stream_id)
        except ngh2.NGH2Error as error:
            log.info("%s broke HTTP/2: %s", self.peer, error)
            self._flush()
            self._transport.close()
            return
        self._wake()

    def pause_writing(self) -> None:
        """The transport is full."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The transport has room."""
        self._writable.set()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone, and so are its callers."""
        for timer in (self._start_timer, self._silence_timer):
            if timer is not None:
                timer.cancel()
        self._shared.connections.discard(self)
        if not self._shared.connections:
            self._shared.empty.set()
        self._writable.set()
        for stream_id in list(self._calls):
            self._forget(stream_id)

    # Events of HTTP/2.

    def _on_request(self, stream_id: int, headers: Any, ends: bool) -> None:
        try:
            head = self._shared.read_head(headers)
        except HttpError as error:
            self._send_http_status(stream_id, error.status)
            return
        except ServiceError as error:
            self.end(stream_id, error.status, status_text(error.message), (), started=False)
            return
        call = Call(self, stream_id, head, self._limits.message_bytes)
        self._calls[stream_id] = call
        if ends:
            self._guarded(call, call.end_of_requests)

    def _on_data(self, stream_id: int, data: bytes, ends: bool) -> None:
        call = self._calls.get(stream_id)
        if call is None or call.has_ended:
            self.acknowledge(stream_id, len(data))  # of a call that was refused
            return
        if not ends:
            self._count(call, data)
            self._guarded(call, call.receive, data)
            return
        if call.buffered:
            self._release(call)
        self._guarded(call, call.receive_all, data)
        self.acknowledge(stream_id, len(data))

    def _count(self, call: Call, data: bytes) -> None:
        """Lets a call send more of its body, or holds it until there is room."""
        shared, size = self._shared, len(data)
        call.buffered += size
        shared.buffered += size
        if not call.window_is_wide and call.buffered * 2 > _STREAM_WINDOW:
            call.window_is_wide = True
            self._http2.set_local_window_size(_WIDE_STREAM_WINDOW, stream_id=call.stream_id)
        if shared.buffered <= self._limits.bodies_bytes or not shared.held:
            self.acknowledge(call.stream_id, size)
        else:
            _, unread = shared.held.get(call, (self, 0))
            shared.held[call] = (self, unread + size)

    def _release(self, call: Call) -> None:
        amount, call.buffered = call.buffered, 0
        self._shared.held.pop(call, None)
        self._shared.release(amount)

    def _guarded(self, call: Call, act: Any, *arguments: Any) -> None:
        try:
            act(*arguments)
        except ServiceError as error:
            call.fail(error)

    def _forget(self, stream_id: int) -> None:
        call = self._calls.pop(stream_id, None)
        if call is None:
            return
        if call.buffered:
            self._release(call)
        if not call.has_ended:
            call.drop()
        if self._draining and not self._calls:
            self._wake()

    def acknowledge(self, stream_id: int, size: int) -> None:
        """Lets a stream send as much again."""
        if size:
            try:
                self._http2.acknowledge_received_data(size, stream_id)
            except _STREAM_GONE:
                return
            self._wake()

    # Answers; see `serving.faces.http2.call.Connection`.

    def answer(self, stream_id: int, message: bytes, trailers: Metadata) -> None:
        """Sends the one answer of a call and its good status."""
        http2 = self._http2
        try:
            http2.send_response(stream_id, _HEADERS)
            http2.send_data(stream_id, framed(message))
            ending = (*_GOOD, *encoded_metadata(trailers)) if trailers else _GOOD
            http2.send_trailers(stream_id, ending)
        except _STREAM_GONE:
            return
        self._wake()

    def start_answers(self, stream_id: int) -> None:
        """Sends the headers before a stream of answers."""
        self._attempt(self._http2.send_response, stream_id, _HEADERS)

    def stream_answer(self, stream_id: int, message: bytes) -> None:
        """Sends one answer of many."""
        self._attempt(self._http2.send_data, stream_id, framed(message))

    def end(
        self, stream_id: int, code: grpc.StatusCode, text: str, trailers: Metadata, *, started: bool
    ) -> None:
        """Sends a status, after answers if they have `started`."""
        ending = status_trailers(code, text, trailers)
        if started:
            self._attempt(self._http2.send_trailers, stream_id, ending)
        else:
            headers = [*_HEADERS, *ending]
            self._attempt(self._http2.send_response, stream_id, headers, end_stream=True)
        self._endings.append(stream_id)

    def _send_http_status(self, stream_id: int, status: int) -> None:
        headers = [(b":status", str(status).encode())]
        self._attempt(self._http2.send_response, stream_id, headers, end_stream=True)
        self._endings.append(stream_id)

    def waiting_bytes(self, stream_id: int) -> int:
        """How many bytes of answers wait for the reader."""
        try:
            return self._http2.queued_body_size(stream_id)
        except _STREAM_GONE:
            return 0

    async def drained(self) -> None:
        """Waits until some of them may have gone out."""
        await self._writable.wait()
        await asyncio.sleep(0.01)

    def _attempt(self, send: Any, *arguments: Any, **options: Any) -> None:
        """Sends, unless the stream has gone meanwhile."""
        try:
            send(*arguments, **options)
        except _STREAM_GONE:
            return
        self._wake()

    # Writing.

    def _wake(self) -> None:
        if not self._flushing:
            self._flushing = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        while self._writable.is_set():
            data = self._http2.data_to_send(_WRITE_AT_ONCE)
            if not data:
                break
            transport.write(data)
        self._reset_endings()
        self._watch_reader()
        if (self._draining and not self._calls) or not (
            self._http2.want_read or self._http2.want_write
        ):
            transport.close()

    def _reset_endings(self) -> None:
        """Stops callers that still send after their status: they have read it by now."""
        if not self._endings or not self._writable.is_set():
            return
        endings, self._endings = self._endings, []
        for stream_id in endings:
            self._attempt(self._http2.reset_stream, stream_id, 0)

    def _watch_reader(self) -> None:
        """Reads nothing more from one that does not read its answers, and resumes later."""
        stop = self._http2.queued_body_size() > _WAITING_ANSWERS
        if stop != self._reading_stopped:
            self._reading_stopped = stop
            (self._transport.pause_reading if stop else self._transport.resume_reading)()

    # The connection's life.

    def _check_start(self) -> None:
        if not self._heard:
            self._transport.close()

    def _watch_silence(self) -> None:
        if self._limits.keepalive_s is not None:
            self._silence_timer = self.loop.call_later(
                self._limits.keepalive_s, self._ask, self._limits.keepalive_s
            )

    def _ask(self, silence_s: float) -> None:
        now = self.loop.time()
        if now - self._heard < silence_s:
            self._watch_silence()
            return
        self._http2.ping()
        self._wake()
        timeout_s = self._limits.keepalive_timeout_s
        self._silence_timer = self.loop.call_later(timeout_s, self._check_answer, now)

    def _check_answer(self, asked: float) -> None:
        if self._heard > asked:
            self._watch_silence()
        else:
            log.info("%s does not answer", self.peer)
            self._transport.abort()

    def announce_end(self) -> None:
        """Asks the caller to open no more calls here; those under way go on."""
        self._attempt(self._http2.send_shutdown_notice)

    def refuse_more(self) -> None:
        """Refuses further calls, and closes when the last one has ended."""
        self._draining = True
        self._attempt(self._http2.send_goaway)

    def close(self, error: ServiceError) -> None:
        """Ends what is under way with an error, and the connection."""
        for call in list(self._calls.values()):
            call.fail(error)
            call.drop()
        self._flush()
        self._transport.close()


def _peer(transport: Any) -> str:
    address = transport.get_extra_info("peername")
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
    return f"unix:{address or ''}"
