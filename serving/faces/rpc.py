"""The shell around every RPC, the same under both gRPC faces: bytes in, behaviour, bytes out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError

from protocol.errors import InvalidRequestError, ServiceError
from protocol.services import Kind, Method
from serving.core.predictor import Timing

_ASKS_TIMING = "x-server-timing"
_LONGEST_TEXT = 1024
_CUT = "...TRUNCATED"


class Context(Protocol):
    """What a behaviour may ask about its call."""

    def time_remaining(self) -> float | None:
        """Seconds until the caller gives up; None without a deadline."""
        ...

    def invocation_metadata(self) -> Any:
        """Pairs of name and value that the caller added."""
        ...

    def set_trailing_metadata(self, metadata: Any) -> None:
        """Sets what goes out with the status."""
        ...

    def peer(self) -> str:
        """The caller's address."""
        ...


Unary = Callable[[Any, Context], Awaitable[Any]]
Stream = Callable[[Any, Context], AsyncIterator[Any]]


def tell_origin(context: Context, version: int, timing: Timing) -> None:
    """Tells a caller that asks for it which version answered, and what took how long.

    It asks with metadata `x-server-timing`, of any value, and finds `x-model-version` and
    `server-timing` in the trailing metadata. Others are spared: two trailers that differ from call
    to call cost a fifth of what a small model does.
    """
    for name, _ in context.invocation_metadata():
        if name == _ASKS_TIMING:
            origin = (("x-model-version", str(version)), ("server-timing", str(timing)))
            context.set_trailing_metadata(origin)
            return


class Pending(Protocol):
    """An answer under way."""

    def cancel(self, error: ServiceError | None = None) -> None:
        """Gives it up: the caller has gone, or was told `error` already."""
        ...


Reply = Callable[[bytes | ServiceError], None]
Start = Callable[[bytes, Context, Reply], Pending | None]


@dataclass(frozen=True)
class Handler:
    """One method as a face calls it.

    Attributes:
        path: The HTTP/2 path.
        kind: Which sides stream.
        run: A coroutine function, or an async generator function for a streaming method, of the
            request's bytes (or an iterator of them) and a context, for the response's bytes. It
            raises ServiceError.
        start: Does the same for a unary method without a coroutine, where that can be done: it
            takes the request's bytes, a context, and what to tell the answer or the error to,
            which may happen at once or later.
    """

    path: str
    kind: Kind
    run: Any
    start: Start | None = None


def handlers(behaviours: Mapping[Method, Any]) -> list[Handler]:
    """Makes the handlers of a service.

    A body that is no message of the right type ends in INVALID_ARGUMENT.

    Args:
        behaviours: A coroutine function, or an async generator function for a streaming method,
            of request (or iterator of requests) and context.
    """
    wrap: dict[Kind, Any] = {
        "unary_unary": _unary,
        "unary_stream": _unary_stream,
        "stream_stream": _stream_stream,
    }
    return [
        Handler(method.path, method.kind, wrap[method.kind](method, behaviour))
        for method, behaviour in behaviours.items()
    ]


def status_text(message: str) -> str:
    """Cuts an error text to the length that fits in a trailer."""
    return message if len(message) <= _LONGEST_TEXT else message[:_LONGEST_TEXT] + _CUT


def parse(message_type: Any, data: bytes) -> Any:
    """Parses a request's body.

    Raises:
        InvalidRequestError: The bytes are no such message.
    """
    try:
        return message_type.FromString(data)
    except DecodeError as error:
        name = message_type.DESCRIPTOR.full_name
        raise InvalidRequestError(
            f"The body of the request ({len(data)} bytes) is not a {name}: {error}"
        ) from error


def _unary(method: Method, behaviour: Unary) -> Any:
    async def run(data: bytes, context: Context) -> bytes:
        response = await behaviour(parse(method.request, data), context)
        serialized: bytes = response.SerializeToString()
        return serialized

    return run


def _unary_stream(method: Method, behaviour: Stream) -> Any:
    async def run(data: bytes, context: Context) -> AsyncIterator[bytes]:
        async for response in behaviour(parse(method.request, data), context):
            yield response.SerializeToString()

    return run


def _stream_stream(method: Method, behaviour: Stream) -> Any:
    async def run(stream: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        requests = (parse(method.request, data) async for data in stream)
        async for response in behaviour(requests, context):
            yield response.SerializeToString()

    return run


class GrpcioHandlers(grpc.GenericRpcHandler):
    """Handlers for a server of grpcio: it turns ServiceError into a status.

    Args:
        handlers: Of all services.
    """

    def __init__(self, handlers: Iterable[Handler]) -> None:
        self._methods = {handler.path: _for_grpcio(handler) for handler in handlers}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Finds a method; None if there is none."""
        return self._methods.get(handler_call_details.method)


def _for_grpcio(handler: Handler) -> Any:
    if handler.kind == "unary_unary":
        return grpc.unary_unary_rpc_method_handler(_aborting(handler.run))
    if handler.kind == "unary_stream":
        return grpc.unary_stream_rpc_method_handler(_aborting_stream(handler.run))
    return grpc.stream_stream_rpc_method_handler(_aborting_stream(handler.run))


def _aborting(run: Any) -> Any:
    async def answer(data: bytes, context: Any) -> Any:
        try:
            return await run(data, context)
        except ServiceError as error:
            await context.abort(error.status, status_text(error.message))

    return answer


def _aborting_stream(run: Any) -> Any:
    async def answer(data: Any, context: Any) -> AsyncIterator[bytes]:
        try:
            async for response in run(data, context):
                yield response
        except ServiceError as error:
            await context.abort(error.status, status_text(error.message))

    return answer
