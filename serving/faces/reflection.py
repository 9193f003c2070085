"""Server reflection (v1 and v1alpha): generic clients read our services from the private pool."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pb2

from protocol.messages import POOL
from protocol.services import REFLECTION_V1, REFLECTION_V1ALPHA, Method
from serving.faces.rpc import Context


class ReflectionFace:
    """`ServerReflection` of one protocol version.

    Args:
        method: The version's method; requests and responses are of its types.
        services: Full names of the services to list.
    """

    def __init__(self, method: Method, services: Sequence[str]) -> None:
        self._method = method
        self._services = sorted(services)

    @property
    def service(self) -> str:
        """The service's full name."""
        return self._method.service

    def behaviours(self) -> Mapping[Method, Any]:
        """What the method does."""
        return {self._method: self.answer_all}

    async def answer_all(
        self, requests: AsyncIterator[Any], context: Context
    ) -> AsyncIterator[Any]:
        """Answers each question of a stream."""
        async for request in requests:
            yield self.answer(request)

    def answer(self, request: Any) -> Any:
        """Answers one question; what is not known is an answer too."""
        response = self._method.response(valid_host=request.host, original_request=request)
        kind = request.WhichOneof("message_request")
        try:
            self._fill(response, request, kind)
        except KeyError as error:
            _fill_error(response, grpc.StatusCode.NOT_FOUND, f"Not found: {error.args[0]}")
        return response

    def _fill(self, response: Any, request: Any, kind: str | None) -> None:
        if kind == "list_services":
            for name in self._services:
                response.list_services_response.service.add(name=name)
        elif kind == "file_by_filename":
            _fill_files(response, POOL.FindFileByName(request.file_by_filename))
        elif kind == "file_containing_symbol":
            _fill_files(response, _file_of(request.file_containing_symbol))
        elif kind == "file_containing_extension":
            wanted = request.file_containing_extension
            message = POOL.FindMessageTypeByName(wanted.containing_type)
            extension: Any = POOL.FindExtensionByNumber(message, wanted.extension_number)
            _fill_files(response, extension.file)
        elif kind == "all_extension_numbers_of_type":
            message = POOL.FindMessageTypeByName(request.all_extension_numbers_of_type)
            numbers = [extension.number for extension in POOL.FindAllExtensions(message)]
            response.all_extension_numbers_response.base_type_name = message.full_name
            response.all_extension_numbers_response.extension_number.extend(numbers)
        else:
            _fill_error(
                response, grpc.StatusCode.INVALID_ARGUMENT, "The request asks for nothing known"
            )


def reflection_faces(services: Iterable[str]) -> list[ReflectionFace]:
    """The faces of both versions of the protocol, listing `services` and themselves."""
    methods = (REFLECTION_V1, REFLECTION_V1ALPHA)
    names = [*services, *(method.service for method in methods)]
    return [ReflectionFace(method, names) for method in methods]


def _file_of(symbol: str) -> Any:
    """The file that defines a symbol; the pool itself does not find methods."""
    try:
        return POOL.FindFileContainingSymbol(symbol)
    except KeyError:
        service, _, method = symbol.rpartition(".")
        if method in POOL.FindServiceByName(service).methods_by_name:
            return POOL.FindFileContainingSymbol(service)
        raise


def _fill_files(response: Any, file: Any) -> None:
    """Adds a file and everything it imports."""
    seen: dict[str, Any] = {}
    waiting = [file]
    while waiting:
        current = waiting.pop(0)
        if current.name not in seen:
            seen[current.name] = current
            waiting.extend(current.dependencies)
    for item in seen.values():
        proto = descriptor_pb2.FileDescriptorProto()
        item.CopyToProto(proto)
        response.file_descriptor_response.file_descriptor_proto.append(proto.SerializeToString())


def _fill_error(response: Any, code: grpc.StatusCode, message: str) -> None:
    response.error_response.error_code = code.value[0]
    response.error_response.error_message = message
