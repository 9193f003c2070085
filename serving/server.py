"""Wires the whole server together, and its life from the first load to the last drained request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from aiohttp import web

from protocol.errors import InvalidRequestError, ServiceError, UnavailableError, UnknownError
from protocol.services import (
    HANDLE_RELOAD_CONFIG,
    HEALTH_SERVICE,
    MODEL_SERVICE,
    PREDICTION_SERVICE,
)
from protocol.version_folder import read_tuning
from serving import config_files
from serving.config_files import (
    DEFAULT_METRICS_PATH,
    PlatformOptions,
    SessionThreads,
    SslOptions,
)
from serving.core.access_log import AccessLog
from serving.core.admission import Admission, Rate, read_tokens
from serving.core.batching import BatchingOptions, BatchScheduler, unbatched
from serving.core.data_plane import DataPlane
from serving.core.drift import DriftMonitor
from serving.core.file_writer import FileWriter
from serving.core.loading import VersionLoader
from serving.core.manager import LoadRetries, Manager
from serving.core.metrics import ServerMetrics
from serving.core.model_config import ModelConfig, RequestLogConfig
from serving.core.processors import USABLE_PROCESSORS
from serving.core.source import FileSystemSource
from serving.faces.grpc_face import ModelFace, PredictionFace
from serving.faces.grpcio_server import GrpcioServer
from serving.faces.health import HealthFace
from serving.faces.http2.connection import Limits
from serving.faces.http2.server import Http2Server, tls_context
from serving.faces.http_face import HttpFace, listening_socket
from serving.faces.predict import PredictMethod
from serving.faces.profiler import ProfilerFace
from serving.faces.reflection import reflection_faces
from serving.faces.rest.face import RestFace, RestOptions
from serving.faces.rpc import Context, Handler, handlers
from serving.faces.shells import RequestLog, admitted, logged
from serving.flags import GRPCIO, ServerFlags
from serving.processes.member import Member
from serving.runtimes import SAVED_MODEL, RuntimeChooser, RuntimeOptions, profiler_address

log = logging.getLogger(__name__)

_CLOSING_S = 5.0
_PER_MODEL_BATCHING_FILE = "batching_params.pbtxt"
# More than base paths that may hang at the same time.
_POLL_THREADS = 32
# gRPC's channel arguments that the fast face knows: their field of Limits, and the field's unit.
_LIMITS = (
    ("grpc.max_receive_message_length", "message_bytes", 1),
    ("grpc.max_concurrent_streams", "streams", 1),
    ("grpc.max_metadata_size", "header_bytes", 1),
    ("grpc.keepalive_time_ms", "keepalive_s", 1e-3),
    ("grpc.keepalive_timeout_ms", "keepalive_timeout_s", 1e-3),
)


class ModelServer:
    """One server: construct, `start()`, `stop()`, all on one event loop.

    Args:
        flags: What to serve, and how.

    Raises:
        ServiceError: A flag or a config file is wrong.
    """

    def __init__(self, flags: ServerFlags) -> None:
        self._flags = flags
        self._configs = self._read_configs()
        self._config_problem = ""
        self._batching_by_folder: dict[Path, BatchingOptions] = {}
        self._platform = self._read_platform()
        self._batching = self._read_batching()
        self._metrics_path = self._read_metrics_path()
        self._tls = self._read_tls()
        self._admission = self._read_admission()
        path = flags.access_log
        self._access_log = AccessLog(FileWriter(path)) if path else None
        self._request_log = RequestLog(self._request_logs)
        self._logged: tuple[Mapping[str, ModelConfig], dict[str, RequestLogConfig]] = ({}, {})
        self._executors = _Executors(
            loads=flags.num_load_threads or USABLE_PROCESSORS,
            unloads=flags.num_unload_threads or 1,
            runs=self._threads,
            json=min(flags.rest_api_num_threads, USABLE_PROCESSORS),
        )
        self._scheduler = BatchScheduler(self._executors.runs, self._threads)
        self.metrics = ServerMetrics(self._batching.thread_pool_name if self._batching else "")
        self._drift = DriftMonitor(self._executors.samples, flags.drift_samples_per_second)
        self.metrics.registry.register(self._drift)
        self.manager = self._make_manager()
        self.source = FileSystemSource(self.manager.aspire, self._executors.polls)
        self.data_plane = DataPlane(
            self.manager,
            self.source,
            self.metrics,
            batching=self._batching_of,
            scheduler=self._scheduler,
            executor=self._executors.preparation,
            drift=self._drift,
            labels_may_wait=flags.allow_version_labels_for_unavailable_models,
            check_method_names=flags.enable_signature_method_name_check,
        )
        self._profiler = ProfilerFace(profiler_address)
        self._grpc: Http2Server | GrpcioServer | None = None
        self._member = Member.from_environment()
        self._private: Http2Server | None = None
        self._http: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Loads the models, then opens the ports; returns when requests are answered.

        Raises:
            ServiceError: The list of models is wrong, or a port is taken.
        """
        await self.data_plane.configure(self._configs)
        self._watch()
        if self._member is not None:
            self._private = await self._start_private(self._member)
        if self._flags.port or self._flags.grpc_socket_path:
            self._grpc = await self._start_grpc()
            self._log_grpc()
        await self._start_http()

    async def stop(self, drain_timeout_s: float = 0.0) -> bool:
        """Reports NOT_SERVING, refuses new requests, lets those under way finish, and unloads.

        Args:
            drain_timeout_s: How long requests may take to finish.

        Returns:
            Whether everything came to rest; if not, threads are still at work.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + drain_timeout_s
        self.data_plane.drain()
        for task in self._tasks:
            task.cancel()
        if self._grpc is not None:
            await self._grpc.stop(drain_timeout_s)
        if self._private is not None:
            await self._private.stop(0)
        await self._profiler.close()
        if self._http is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(deadline - clock(), _CLOSING_S)):
                    await self._http.cleanup()
        rested = True
        try:
            async with asyncio.timeout(_CLOSING_S):
                await self.manager.close()
        except TimeoutError:
            log.warning("Some versions could not be unloaded in time")
            rested = False
        self._executors.shutdown()
        self._request_log.close()
        if self._access_log is not None:
            self._access_log.close()
        return rested and self._scheduler.is_idle and self.source.is_idle

    # Reading the configuration.

    def _read_configs(self) -> list[ModelConfig]:
        flags = self._flags
        if flags.model_config_file:
            return config_files.read_model_configs(flags.model_config_file)
        if flags.model_base_path:
            return [config_files.command_line_model(flags.model_name, flags.model_base_path)]
        raise InvalidRequestError("Give either --model_base_path or --model_config_file")

    def _read_batching(self) -> BatchingOptions | None:
        flags = self._flags
        if self._platform is not None:
            return self._platform.batching
        if not flags.enable_batching:
            return None
        if flags.batching_parameters_file:
            return config_files.read_batching_options(flags.batching_parameters_file)
        return BatchingOptions(thread_pool_name="model_server_batch_threads")

    def _read_platform(self) -> PlatformOptions | None:
        path = self._flags.platform_config_file
        return config_files.read_platform_options(path) if path else None

    def _read_session_threads(self) -> SessionThreads:
        """Those of the platform config file, else of the flags, else of the session's file."""
        if self._platform is not None:
            return self._platform.session
        flags = self._flags
        path = flags.tensorflow_session_config_file
        given = config_files.read_session_threads(path) if path else SessionThreads()
        return SessionThreads(
            flags.intra_op_threads or given.intra_op, flags.inter_op_threads or given.inter_op
        )

    def _read_tags(self) -> tuple[str, ...]:
        if self._platform is not None and self._platform.saved_model_tags:
            return self._platform.saved_model_tags
        return tuple(self._flags.saved_model_tags.split(","))

    def _read_metrics_path(self) -> str:
        path = self._flags.monitoring_config_file
        return config_files.read_metrics_path(path) if path else DEFAULT_METRICS_PATH

    def _read_tls(self) -> SslOptions | None:
        path = self._flags.ssl_config_file
        return config_files.read_ssl_options(path) if path else None

    def _read_admission(self) -> Admission:
        flags = self._flags
        tokens = read_tokens(flags.auth_tokens_file) if flags.auth_tokens_file else {}
        per_second = flags.requests_per_second_per_client
        rate = Rate(per_second, flags.request_burst_per_client) if per_second else None
        return Admission(tokens, rate)

    def _request_logs(self) -> dict[str, RequestLogConfig]:
        configs = self.source.configs
        if configs is not self._logged[0]:
            logs = {name: c.request_log for name, c in configs.items() if c.request_log is not None}
            self._logged = (configs, logs)
        return self._logged[1]

    @property
    def _threads(self) -> int:
        return self._batching.num_batch_threads if self._batching is not None else USABLE_PROCESSORS

    @property
    def _rest_options(self) -> RestOptions:
        flags = self._flags
        return RestOptions(
            timeout_s=flags.rest_api_timeout_in_ms / 1e3
            if flags.rest_api_timeout_in_ms > 0
            else None,
            enable_cors=flags.rest_api_enable_cors_support,
            max_body_bytes=flags.rest_api_max_body_bytes,
        )

    def _batching_of(self, folder: Path) -> BatchingOptions:
        """The batching options of a version folder, as they were when it was loaded."""
        if folder not in self._batching_by_folder:
            return self._read_batching_of(folder)
        return self._batching_by_folder[folder]

    def _read_batching_of(self, folder: Path) -> BatchingOptions:
        if self._batching is None:
            options = unbatched(self._threads)
        elif not self._flags.enable_per_model_batching_parameters:
            options = self._tuned(self._batching, folder)
        elif (path := folder / _PER_MODEL_BATCHING_FILE).is_file():
            options = config_files.read_batching_options(path, threads=self._threads)
        else:
            options = unbatched(self._threads)
        self._batching_by_folder[folder] = options
        return options

    def _tuned(self, options: BatchingOptions, folder: Path) -> BatchingOptions:
        """The options that nobody has chosen, with what is known of a version's ONNX graphs.

        A request may hold more rows than are worth joining; it then runs by itself.
        """
        flags = self._flags
        if self._platform is not None or flags.batching_parameters_file:
            return options
        tuning = read_tuning(folder) if flags.runtime != SAVED_MODEL else None
        if tuning is None:
            return options
        return replace(options, max_joined_rows=tuning.max_batch_size)

    # Building the parts.

    def _make_manager(self) -> Manager:
        flags, threads = self._flags, self._read_session_threads()
        runtimes = RuntimeChooser(
            RuntimeOptions(
                runtime=flags.runtime,
                intra_op_threads=threads.intra_op,
                inter_op_threads=threads.inter_op,
                saved_model_tags=self._read_tags(),
                gpu_memory_fraction=flags.per_process_gpu_memory_fraction,
                prefer_tflite=flags.prefer_tflite_model,
                tflite_interpreters=flags.num_tflite_pools * flags.num_tflite_interpreters_per_pool,
            )
        )
        loader = VersionLoader(
            runtimes,
            self.metrics.tf,
            tell_memory=self.metrics.memory_grew,
            watch=self._drift.open,
            check_folder=self._read_batching_of,
            warm_up=flags.enable_model_warmup,
            warm_up_iterations=flags.num_request_iterations_for_warmup,
        )
        retries = LoadRetries(flags.max_num_load_retries, flags.load_retry_interval_micros / 1e6)
        return Manager(loader, self._executors.loads, retries, self._executors.unloads)

    async def _start_grpc(self) -> Http2Server | GrpcioServer:
        """Opens the gRPC ports on the face that the flags choose."""
        arguments = channel_arguments(self._flags.grpc_channel_arguments)
        tls, shared = self._tls, self._member is not None
        if self._flags.grpc_face == GRPCIO:
            server = GrpcioServer(self._handlers(), arguments, shared=shared)
            if self._flags.port:
                await server.listen(self._flags.port, _grpcio_credentials(tls) if tls else None)
            if self._flags.grpc_socket_path:
                await server.listen_unix(self._flags.grpc_socket_path)
            await server.start()
            return server
        fast = Http2Server(self._handlers(), limits_of(arguments))
        if self._flags.port:
            context = _tls_context(tls) if tls else None
            await fast.listen(self._flags.port, context, shared=shared)
        if self._flags.grpc_socket_path:
            await fast.listen_unix(self._flags.grpc_socket_path)
        return fast

    def _handlers(self) -> list[Handler]:
        services: dict[str, Any] = {
            PREDICTION_SERVICE: PredictionFace(self.data_plane),
            MODEL_SERVICE: ModelFace(self.data_plane),
            HEALTH_SERVICE: HealthFace(self.data_plane),
        }
        for face in reflection_faces(list(services)):
            services[face.service] = face
        predict = PredictMethod(
            self.data_plane, tensor_content=self._flags.enable_serialization_as_tensor_content
        )
        found = [each for face in services.values() for each in handlers(face.behaviours())]
        if self._flags.enable_profiler:
            found += self._profiler.handlers()
        found.append(predict.handler())
        by_path = {handler.path: handler for handler in found}
        if self._member is not None:
            own = by_path[HANDLE_RELOAD_CONFIG.path]
            by_path[own.path] = replace(own, run=partial(self._reload_all, self._member, own))
        return [self._in_shells(handler) for handler in by_path.values()]

    async def _reload_all(
        self, member: Member, own: Handler, data: bytes, context: Context
    ) -> bytes:
        answer: bytes = await own.run(data, context)
        await member.reload_others(data)
        return answer

    async def _start_private(self, member: Member) -> Http2Server:
        """Opens the socket on which the other processes reach this one."""
        reload = ModelFace(self.data_plane)
        [handler] = [
            each for each in handlers(reload.behaviours()) if each.path == HANDLE_RELOAD_CONFIG.path
        ]
        own = Http2Server(member.handlers(self.metrics.render, handler.run), Limits())
        await own.listen_unix(member.socket_path)
        return own

    def _in_shells(self, handler: Handler) -> Handler:
        handler = self._request_log.wrap(handler)
        if not self._admission.is_open:
            handler = admitted(handler, self._admission)
        return handler if self._access_log is None else logged(handler, self._access_log)

    async def _start_http(self) -> None:
        port = self._flags.rest_api_port
        if not port:
            return
        if port == self._flags.port:
            log.error("--rest_api_port is the gRPC port %d: HTTP is switched off", port)
            return
        rest = RestFace(self.data_plane, self.metrics, self._executors.json, self._rest_options)
        face = HttpFace(
            self.data_plane,
            self._metrics_page,
            self._metrics_path,
            rest,
            self._admission,
            self._access_log,
        )
        self._http = web.AppRunner(
            face.application(),
            access_log=None,
            shutdown_timeout=max(self._flags.drain_timeout_seconds, _CLOSING_S),
            auto_decompress=False,  # the REST face unpacks, with a limit
        )
        await self._http.setup()
        try:
            listening = listening_socket(port, shared=self._member is not None)
            await web.SockSite(self._http, listening).start()
        except OSError as error:
            raise UnavailableError(f"Can not listen on port {port}: {error}") from error
        log.info("Exporting HTTP/REST API at:localhost:%d ...", port)

    async def _metrics_page(self) -> bytes:
        own = self.metrics.render()
        return own if self._member is None else await self._member.merged_metrics(own)

    def _log_grpc(self) -> None:
        if self._flags.port:
            log.info("Running gRPC ModelServer at 0.0.0.0:%d ...", self._flags.port)
        if self._flags.grpc_socket_path:
            log.info("Running gRPC ModelServer at UNIX socket %s ...", self._flags.grpc_socket_path)

    # Watching.

    def _watch(self) -> None:
        flags = self._flags
        if flags.file_system_poll_wait_seconds > 0:
            self._spawn(self.source.watch(flags.file_system_poll_wait_seconds))
        if flags.model_config_file and flags.model_config_file_poll_wait_seconds > 0:
            self._spawn(self._watch_config_file(flags.model_config_file_poll_wait_seconds))

    async def _watch_config_file(self, interval_s: float) -> None:
        """Applies every change of the model config file; a wrong file changes nothing."""
        while True:
            await asyncio.sleep(interval_s)
            await self._reload(unchanged_too=False)

    def reload_soon(self) -> None:
        """Begins to apply the model config file as it is now, and to look for new versions."""
        log.info("Reloading")
        works = self._reload(unchanged_too=True) if self._flags.model_config_file else None
        self._spawn(works or self.source.poll())

    async def _reload(self, *, unchanged_too: bool) -> None:
        path = self._flags.model_config_file
        problem = ""
        try:
            configs = await asyncio.to_thread(config_files.read_model_configs, path)
            if unchanged_too or configs != self._configs:
                await self.data_plane.reload(configs)
            self._configs = configs
        except UnknownError as error:
            # The new models that failed are tried again by themselves.
            self._configs = configs
            problem = f"The model config file is applied, but {error}"
        except ServiceError as error:
            problem = f"The model config file is not applied: {error}"
        if problem and problem != self._config_problem:
            log.error("%s", problem)
        self._config_problem = problem

    def _spawn(self, work: Any) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))


class _Executors:
    """The server's threads, apart by purpose so that none waits for another's work."""

    def __init__(self, loads: int, unloads: int, runs: int, json: int) -> None:
        self.loads = ThreadPoolExecutor(loads, "load")
        self.unloads = ThreadPoolExecutor(unloads, "unload")
        self.polls = ThreadPoolExecutor(_POLL_THREADS, "poll")
        self.runs = ThreadPoolExecutor(runs, "run")
        self.preparation = ThreadPoolExecutor(USABLE_PROCESSORS, "prepare")
        self.json = ThreadPoolExecutor(json, "json")
        self.samples = ThreadPoolExecutor(1, "sample")

    def shutdown(self) -> None:
        for executor in vars(self).values():
            executor.shutdown(wait=False, cancel_futures=True)


def channel_arguments(text: str) -> list[tuple[str, str | int]]:
    """Reads `name=value,name=value`; whole numbers become int.

    Raises:
        InvalidRequestError: A part has no `=`.
    """
    arguments: list[tuple[str, str | int]] = []
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals:
            raise InvalidRequestError(f"--grpc_channel_arguments: {part!r} is not name=value")
        arguments.append((name, _int_or_text(value)))
    return arguments


def _int_or_text(value: str) -> int | str:
    with contextlib.suppress(ValueError):
        return int(value)
    return value


def limits_of(arguments: Sequence[tuple[str, str | int]]) -> Limits:
    """Reads the limits of the fast face from gRPC's channel arguments; others are passed over."""
    given = {name: value for name, value in arguments if isinstance(value, int)}
    changes: dict[str, Any] = {
        field: given[name] * unit for name, field, unit in _LIMITS if name in given
    }
    return replace(Limits(), **changes)


def _grpcio_credentials(tls: SslOptions) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(tls.key, tls.certificate)],
        root_certificates=tls.ca,
        require_client_auth=tls.client_verify,
    )


def _tls_context(tls: SslOptions) -> ssl.SSLContext:
    try:
        return tls_context(tls.key, tls.certificate, tls.ca, require_client=tls.client_verify)
    except ssl.SSLError as error:
        raise InvalidRequestError(f"--ssl_config_file: key and certificate: {error}") from error
