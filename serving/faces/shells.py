"""Layers around gRPC handlers: who may call, a line for each call, samples of requests."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import google_crc32c

from protocol import services
from protocol.errors import ServiceError
from protocol.messages import PredictionLog
from protocol.predict_wire import read_request
from protocol.warmup import frame_record
from serving.core.access_log import AccessLog
from serving.core.admission import Admission
from serving.core.file_writer import FileWriter
from serving.core.model_config import RequestLogConfig
from serving.faces.rpc import Context, Handler, Pending, Reply, Start

_UNGUARDED = f"/{services.HEALTH_SERVICE}/"

# The field of a PredictionLog that takes request and response of a method.
_LOG_FIELDS = {
    services.PREDICT.path: "predict_log",
    services.CLASSIFY.path: "classify_log",
    services.REGRESS.path: "regress_log",
    services.MULTI_INFERENCE.path: "multi_inference_log",
}


def admitted(handler: Handler, admission: Admission) -> Handler:
    """Refuses calls that may not come in; health checks always may."""
    if handler.path.startswith(_UNGUARDED):
        return handler

    def check(context: Context) -> None:
        headers = dict(context.invocation_metadata())
        authorization = headers.get("authorization")
        text = authorization if isinstance(authorization, str) else None
        admission.check(text, address(context.peer()))

    return _wrapped(handler, lambda context: _before(check, context))


@contextmanager
def _before(check: Callable[[Context], None], context: Context) -> Iterator[None]:
    check(context)
    yield


def address(peer: str) -> str:
    """The caller's address without its port: `ipv4:10.0.0.1:4000` is `ipv4:10.0.0.1`."""
    return peer if peer.startswith("unix") else peer.rpartition(":")[0]


def logged(handler: Handler, access_log: AccessLog) -> Handler:
    """Writes a line for each call."""
    return _wrapped(handler, lambda context: _line(handler.path, access_log, context))


@contextmanager
def _line(path: str, access_log: AccessLog, context: Context) -> Iterator[None]:
    started, code = time.perf_counter(), "CANCELLED"
    text = ""
    try:
        yield
        code = "OK"
    except ServiceError as error:
        code, text = error.status.name, error.message
        raise
    finally:
        access_log.write(
            peer=context.peer(),
            method=path,
            code=code,
            seconds=time.perf_counter() - started,
            error=text,
            traceparent=str(dict(context.invocation_metadata()).get("traceparent", "")),
        )


def _wrapped(handler: Handler, around: Callable[[Context], Any]) -> Handler:
    """Runs a handler within a context manager."""

    async def unary(data: bytes, context: Context) -> bytes:
        with around(context):
            answer: bytes = await handler.run(data, context)
            return answer

    async def stream(data: Any, context: Context) -> AsyncIterator[bytes]:
        with around(context):
            async for answer in handler.run(data, context):
                yield answer

    run = unary if handler.kind == "unary_unary" else stream
    return replace(handler, run=run, start=None)


class RequestLog:
    """Samples requests with their answers, as TFRecords of `PredictionLog`.

    Such a file can be replayed as a version's warm-up requests. It is what `logging_config` of a
    model asks for.

    Args:
        configs: Gives the configuration of each model that has one; often called.
        source: Random numbers in [0, 1).
    """

    def __init__(
        self,
        configs: Callable[[], Mapping[str, RequestLogConfig]],
        source: Callable[[], float] = random.random,
    ) -> None:
        self._configs = configs
        self._source = source
        self._writers: dict[str, FileWriter] = {}

    def wrap(self, handler: Handler) -> Handler:
        """Samples the calls of a method; those that end in an error are left out."""
        field = _LOG_FIELDS.get(handler.path)
        if field is None:
            return handler

        async def run(data: bytes, context: Context) -> bytes:
            answer: bytes = await handler.run(data, context)
            configs = self._configs()
            if configs:
                self._sample(configs, field, data, answer)
            return answer

        return replace(handler, run=run, start=self._wrapped_start(field, handler.start))

    def _wrapped_start(self, field: str, start: Start | None) -> Start | None:
        if start is None:
            return None

        def sampling(data: bytes, context: Context, reply: Reply) -> Pending | None:
            configs = self._configs()
            if not configs:
                return start(data, context, reply)

            def sample(answer: bytes | ServiceError) -> None:
                reply(answer)
                if isinstance(answer, bytes):
                    self._sample(configs, field, data, answer)

            return start(data, context, sample)

        return sampling

    def _sample(
        self, configs: Mapping[str, RequestLogConfig], field: str, data: bytes, answer: bytes
    ) -> None:
        record = PredictionLog()
        entry = getattr(record, field)
        config = configs.get(_model_name(field, entry.request, data))
        if config is None or self._source() >= config.sampling_rate:
            return
        entry.request.ParseFromString(data)
        entry.response.ParseFromString(answer)
        record.log_metadata.timestamp_secs = int(time.time())
        record.log_metadata.model_spec.CopyFrom(_spec_of(entry.response))
        record.log_metadata.sampling_config.sampling_rate = config.sampling_rate
        framed = frame_record(record.SerializeToString(), google_crc32c.value)
        self._writer(config.filename_prefix).write(framed)

    def _writer(self, prefix: str) -> FileWriter:
        if prefix not in self._writers:
            self._writers[prefix] = FileWriter(f"{prefix}.tfrecord")
        return self._writers[prefix]

    def close(self) -> None:
        """Writes what waits."""
        for writer in self._writers.values():
            writer.close()


def _model_name(field: str, request: Any, data: bytes) -> str:
    """The model that a request names; a Predict request may be large, and is not parsed for it."""
    if field == "predict_log":
        spec = read_request(data).spec
    else:
        request.ParseFromString(data)
        spec = request.tasks[0].model_spec if hasattr(request, "tasks") else request.model_spec
    name: str = spec.name
    return name


def _spec_of(response: Any) -> Any:
    return response.results[0].model_spec if hasattr(response, "results") else response.model_spec
