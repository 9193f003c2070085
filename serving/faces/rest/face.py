"""The REST API: a request's JSON in, data plane calls, JSON out."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from aiohttp import web
from google.protobuf import json_format

from protocol import messages
from protocol.contracts import SERVING_DEFAULT
from protocol.errors import (
    InternalError,
    InvalidRequestError,
    NotFoundError,
    ServiceError,
    UnavailableError,
)
from serving.core.data_plane import DataPlane, Metadata
from serving.core.examples import ExamplesCall, classify, regress
from serving.core.manager import ModelChoice
from serving.core.metrics import UNKNOWN_MODEL, ServerMetrics
from serving.core.predictor import PredictCall, Prediction, Timing
from serving.core.servable import ServableId, VersionStatus
from serving.faces.grpc_face import status_response
from serving.faces.rest import outputs
from serving.faces.rest.bodies import BodyTooLargeError, is_packed, read_body, unpack
from serving.faces.rest.documents import read_document, signature_name
from serving.faces.rest.features import read_examples
from serving.faces.rest.inputs import INSTANCES, read_inputs
from serving.faces.rest.paths import (
    CLASSIFY,
    METADATA,
    MODELS,
    PREDICT,
    Target,
    read_target,
)

log = logging.getLogger(__name__)

HTTP_STATUS: Mapping[str, int] = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""HTTP status of gRPC's statuses; 500 for the others."""

_ENTRYPOINT = "REST"
_CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
_ORIGIN = re.compile(r"https?://")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

# Larger JSON texts, and more values, are read and written off the event loop.
_LARGE_BODY = 16 * 1024
_MANY_VALUES = 2048

Value = TypeVar("Value")


@dataclass(frozen=True)
class RestOptions:
    """What the flags choose.

    Attributes:
        timeout_s: How long a model may take for one request; None for ever.
        enable_cors: Whether answers tell browsers that other origins may read them.
        max_body_bytes: The largest body that is taken, as it is sent.
    """

    timeout_s: float | None = 30.0
    enable_cors: bool = False
    max_body_bytes: int = 1 << 30


@dataclass(frozen=True)
class _Answer:
    """An answer's body, the version that gave it, and how long that took."""

    body: bytes
    version: ServableId | None = None
    timing: Timing | None = None


class RestFace:
    """Everything under `/v1/`.

    Args:
        data_plane: Answers.
        metrics: Where requests are counted that do not reach a model.
        executor: Threads for large JSON texts.
        options: See `RestOptions`.
    """

    def __init__(
        self,
        data_plane: DataPlane,
        metrics: ServerMetrics,
        executor: Executor,
        options: RestOptions,
    ) -> None:
        self._data_plane = data_plane
        self._metrics = metrics
        self._executor = executor
        self._options = options

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answers a request; errors too."""
        started = time.perf_counter()
        if request.method == "OPTIONS":
            response = self._preflight(request)
        else:
            response = await self._respond(request)
        milliseconds = (time.perf_counter() - started) * 1e3
        parts = [f"total;dur={milliseconds:.3f}", *response.headers.popall("Server-Timing", [])]
        response.headers["Server-Timing"] = ", ".join(parts)
        if self._options.enable_cors:
            response.headers.update(_CORS_HEADERS)
        traceparent = request.headers.get("traceparent", "")
        if _TRACEPARENT.fullmatch(traceparent):
            response.headers["traceparent"] = traceparent
        return response

    def _preflight(self, request: web.BaseRequest) -> web.Response:
        """Lets browsers ask before they post; not JSON, as in TensorFlow Serving."""
        allowed = _ORIGIN.search(request.headers.get("Origin", "")) is not None
        self._count("", "OK" if allowed else "FAILED_PRECONDITION")
        return web.Response(status=200 if allowed else 400)

    async def _respond(self, request: web.BaseRequest) -> web.Response:
        try:
            answer = await self._answer(request)
        except ServiceError as error:
            status = HTTP_STATUS.get(error.status.name, 500)
            if isinstance(error, BodyTooLargeError):
                status = 413
            return _json_response(outputs.write_error(error.message), status)
        response = _json_response(answer.body)
        if answer.version is not None:
            response.headers["X-Model-Version"] = str(answer.version.version)
        if answer.timing is not None:
            response.headers["Server-Timing"] = str(answer.timing)
        return response

    async def _answer(self, request: web.BaseRequest) -> _Answer:
        with self._counting_failures(""):
            target = read_target(request.method, request.raw_path)
        if request.method == "GET":
            with self._counting(target.model.name):
                return self._tell(target)
        name = target.model.name
        with self._counting_failures(name):
            if self._data_plane.is_draining:
                raise UnavailableError("The server is shutting down")
            body = await self._read_body(request)
            is_large = len(body) > _LARGE_BODY
            document = await self._convert(is_large, read_document, body)
            signature = signature_name(document)
        if target.method == PREDICT:
            return await self._predict(target.model, document, signature, is_large)
        with self._counting_failures(name):
            examples = await self._convert(is_large, read_examples, document)
        return await self._infer(target, examples, signature)

    # Predictions.

    async def _predict(
        self, model: ModelChoice, document: dict[str, Any], signature: str, is_large: bool
    ) -> _Answer:
        by_row = INSTANCES in document
        prediction = await self._data_plane.predict(
            PredictCall(
                model=model,
                read_inputs=partial(read_inputs, document),
                reads_slowly=is_large,
                signature=signature,
                deadline=self._deadline(),
                api=PREDICT,
                entrypoint=_ENTRYPOINT,
                unknown_signature=_no_such_signature,
                check_outputs=outputs.check_rows if by_row else outputs.check_columns,
            )
        )
        write = outputs.write_predictions if by_row else outputs.write_outputs
        is_large = _size(prediction) > _MANY_VALUES
        body = await self._convert(is_large, write, prediction.outputs)
        return _Answer(body, prediction.id, prediction.timing)

    async def _infer(self, target: Target, examples: Sequence[bytes], signature: str) -> _Answer:
        call = ExamplesCall(target.model, examples, signature, self._deadline(), _ENTRYPOINT)
        if target.method == CLASSIFY:
            classified = await classify(self._data_plane, call)
            body = outputs.write_classifications(classified.results)
            return _Answer(body, classified.id, classified.timing)
        regressed = await regress(self._data_plane, call)
        body = outputs.write_regressions(regressed.results)
        return _Answer(body, regressed.id, regressed.timing)

    async def _read_body(self, request: web.BaseRequest) -> bytes:
        body = await read_body(request, self._options.max_body_bytes)
        return await self._convert(True, unpack, body) if is_packed(request) else body

    async def _convert(self, is_large: bool, work: Callable[[Any], Value], argument: Any) -> Value:
        """Works on a JSON text, off the event loop where that may take long."""
        if not is_large:
            return work(argument)
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, argument)

    def _deadline(self) -> float | None:
        timeout_s = self._options.timeout_s
        return None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s

    # Questions about what is served.

    def _tell(self, target: Target) -> _Answer:
        if target.method == MODELS:
            return _Answer(_document_body(self._listing()))
        if target.method == METADATA:
            metadata = self._data_plane.metadata(target.model)
            return _Answer(_document_body(_metadata_document(metadata)), metadata.id)
        statuses = self._data_plane.status(target.model.name, target.model.version)
        return _Answer(_document_body(_status_document(statuses)))

    def _listing(self) -> dict[str, Any]:
        """All models with their versions, which TensorFlow Serving does not tell."""
        names = self._data_plane.model_names
        return {"models": [{"name": name, **self._status_or_none(name)} for name in names]}

    def _status_or_none(self, name: str) -> dict[str, Any]:
        try:
            return _status_document(self._data_plane.status(name))
        except NotFoundError:
            return _status_document([])

    # Counting, where the data plane does not.

    @contextmanager
    def _counting_failures(self, name: str) -> Iterator[None]:
        try:
            yield
        except ServiceError as error:
            self._count(name, error.status.name)
            raise
        except Exception as error:
            log.exception("A request ended in an unexpected error")
            self._count(name, InternalError.status.name)
            raise InternalError(f"{type(error).__name__}: {error}") from error

    @contextmanager
    def _counting(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        with self._counting_failures(name):
            yield
        self._count(name, "OK")
        microseconds = (time.perf_counter() - started) * 1e6
        latency = self._metrics.tf.request_latency
        latency.observe(microseconds, self._label(name), "", _ENTRYPOINT)

    def _count(self, name: str, code: str) -> None:
        self._metrics.tf.request_count.add(self._label(name), code)

    def _label(self, name: str) -> str:
        """The model's name in metrics; names that callers make up must not fill them."""
        return name if not name or name in self._data_plane.model_names else UNKNOWN_MODEL


def _no_such_signature(name: str, served: str) -> ServiceError:
    return InvalidRequestError(
        f'Serving signature name: "{name or SERVING_DEFAULT}" not found in signature def. {served}'
    )


def _size(prediction: Prediction) -> int:
    return sum(array.size for array in prediction.outputs.values())


def _json_response(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


def _document_body(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=1, ensure_ascii=False).encode(errors="surrogateescape")


def _status_document(statuses: list[VersionStatus]) -> dict[str, Any]:
    return _as_dict(status_response(statuses))


def _metadata_document(metadata: Metadata) -> dict[str, Any]:
    spec = messages.ModelSpec(name=metadata.id.name)
    spec.version.value = metadata.id.version
    signatures = _as_dict(metadata.signature_defs)
    return {"model_spec": _as_dict(spec), "metadata": {"signature_def": signatures}}


def _as_dict(message: Any) -> dict[str, Any]:
    document: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return document
