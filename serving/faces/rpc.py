"""The shell around every RPC: bytes to message, errors to status, message to bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from protocol.errors import InvalidRequestError, ServiceError
from protocol.services import Method

Context = grpc.aio.ServicerContext[Any, Any]
Unary = Callable[[Any, Context], Awaitable[Any]]
Stream = Callable[[Any, Context], AsyncIterator[Any]]

_LONGEST_TEXT = 1024
_CUT = "...TRUNCATED"


def service_handler(service: str, behaviours: Mapping[Method, Any]) -> grpc.GenericRpcHandler:
    """Makes the handler of one service.

    Unlike `protocol.services.service_handler`, it parses messages itself, so that a body that is
    no message of the right type ends in INVALID_ARGUMENT, and it turns ServiceError into a status.

    Args:
        service: The service's full name.
        behaviours: A coroutine function, or an async generator function for a streaming method,
            of request (or iterator of requests) and context.
    """
    handlers = {method.name: _handler(method, run) for method, run in behaviours.items()}
    return grpc.method_handlers_generic_handler(service, handlers)


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


def _handler(method: Method, behaviour: Any) -> grpc.RpcMethodHandler[Any, Any]:
    if method.kind == "unary_unary":
        return grpc.unary_unary_rpc_method_handler(_unary(method, behaviour))
    if method.kind == "unary_stream":
        return grpc.unary_stream_rpc_method_handler(_unary_stream(method, behaviour))
    return grpc.stream_stream_rpc_method_handler(_stream_stream(method, behaviour))


def _unary(method: Method, behaviour: Unary) -> Any:
    async def handle(data: bytes, context: Context) -> bytes:
        try:
            response = await behaviour(parse(method.request, data), context)
        except ServiceError as error:
            await context.abort(error.status, status_text(error.message))
        serialized: bytes = response.SerializeToString()
        return serialized

    return handle


def _unary_stream(method: Method, behaviour: Stream) -> Any:
    async def handle(data: bytes, context: Context) -> AsyncIterator[bytes]:
        try:
            async for response in behaviour(parse(method.request, data), context):
                yield response.SerializeToString()
        except ServiceError as error:
            await context.abort(error.status, status_text(error.message))

    return handle


def _stream_stream(method: Method, behaviour: Stream) -> Any:
    async def handle(stream: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        requests = (parse(method.request, data) async for data in stream)
        try:
            async for response in behaviour(requests, context):
                yield response.SerializeToString()
        except ServiceError as error:
            await context.abort(error.status, status_text(error.message))

    return handle
