"""The command line: TensorFlow Serving's flags and syntax, and a few flags of our own.

A flag is written `--name=value`; a switch also as `--name`. Flags that TensorFlow Serving does not
have are reported with the usage, and the server starts all the same.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from protocol.errors import InvalidRequestError
from serving.core.processors import USABLE_PROCESSORS

GRPCIO, NGHTTP2 = "grpcio", "nghttp2"


_IN = " " * 6  # of the texts on the help page
# Python's int and float also take spaces and underscores.
_NUMBER = re.compile(r"[+-]?[0-9.]+(e[+-]?[0-9]+)?", re.IGNORECASE)
_SWITCH_VALUES = {"true": True, "1": True, "false": False, "0": False}

_GENERAL = "What to serve"
_PORTS = "Ports and transport"
_LIFE = "Life cycle of versions"
_BATCHING = "Batching"
_RUNTIME = "Runtime"
_WATCHING = "Monitoring"
_ADMISSION = "Who may call"


def _flag(default: Any, group: str, text: str) -> Any:
    return field(default=default, metadata={"group": group, "text": text})


@dataclass(frozen=True)
class ServerFlags:
    """Every flag that has an effect, with its default."""

    model_name: str = _flag("default", _GENERAL, "name of the one model under --model_base_path")
    model_base_path: str = _flag(
        "", _GENERAL, "folder with one numbered folder per version; ignored with a config file"
    )
    model_config_file: str = _flag(
        "", _GENERAL, "text file (ModelServerConfig) that lists several models"
    )
    model_config_file_poll_wait_seconds: int = _flag(
        0, _GENERAL, "seconds between readings of the config file; 0 reads it once"
    )
    port: int = _flag(8500, _PORTS, "TCP port of gRPC; 0 switches it off")
    grpc_socket_path: str = _flag("", _PORTS, "Unix socket on which gRPC listens as well")
    rest_api_port: int = _flag(
        0, _PORTS, "TCP port of HTTP (REST, metrics, health); 0 switches it off"
    )
    rest_api_timeout_in_ms: int = _flag(
        30_000, _PORTS, "how long a model may take for a REST request; 0 or less sets no limit"
    )
    rest_api_num_threads: int = _flag(
        4 * USABLE_PROCESSORS,
        _PORTS,
        "threads for large JSON texts; more than CPUs are not started",
    )
    rest_api_enable_cors_support: bool = _flag(
        False, _PORTS, "let scripts of other origins read the answers of the REST API"
    )
    rest_api_max_body_bytes: int = _flag(
        1 << 30, _PORTS, "largest body of a REST request (not in TensorFlow Serving)"
    )
    ssl_config_file: str = _flag(
        "", _PORTS, "text file (SSLConfig) with key and certificates: gRPC then speaks TLS only"
    )
    grpc_face: str = _flag(
        NGHTTP2,
        _PORTS,
        "nghttp2 or grpcio; the first takes far less processor time per call "
        "(not in TensorFlow Serving)",
    )
    server_processes: int = _flag(
        1,
        _PORTS,
        "processes that share the ports and take connections in turn; a small model then uses "
        "more than one core (not in TensorFlow Serving)",
    )
    grpc_channel_arguments: str = _flag("", _PORTS, "gRPC options as name=value,name=value")
    grpc_max_threads: int = _flag(
        4 * USABLE_PROCESSORS, _PORTS, "gRPC threads; the server has one event loop and needs none"
    )
    enable_grpc_healthcheck_service: bool = _flag(
        True, _PORTS, "grpc.health.v1; always on in this server"
    )
    enable_serialization_as_tensor_content: bool = _flag(
        False, _PORTS, "write tensor_content in answers: faster for large tensors"
    )
    drift_samples_per_second: float = _flag(
        2.0,
        _PORTS,
        "requests of each version that are compared with its reference statistics; 0 compares "
        "none (not in TensorFlow Serving)",
    )
    drain_timeout_seconds: float = _flag(
        30.0, _PORTS, "how long SIGTERM lets requests under way finish (not in TensorFlow Serving)"
    )
    file_system_poll_wait_seconds: float = _flag(
        1.0, _LIFE, "seconds between looks for new versions; 0 looks once, negative never"
    )
    max_num_load_retries: int = _flag(5, _LIFE, "further attempts after a failed load")
    load_retry_interval_micros: int = _flag(60_000_000, _LIFE, "microseconds between attempts")
    num_load_threads: int = _flag(0, _LIFE, "versions loaded at once; 0 means one per CPU")
    num_unload_threads: int = _flag(0, _LIFE, "versions unloaded at once; 0 means one")
    allow_version_labels_for_unavailable_models: bool = _flag(
        False, _LIFE, "let a new label name a version that is not loaded yet"
    )
    enable_model_warmup: bool = _flag(True, _LIFE, "replay the version's warm-up requests")
    num_request_iterations_for_warmup: int = _flag(0, _LIFE, "replays of each one; 0 means one")
    enable_batching: bool = _flag(False, _BATCHING, "join requests that wait at the same time")
    batching_parameters_file: str = _flag(
        "", _BATCHING, "text file (BatchingParameters); needs --enable_batching"
    )
    enable_per_model_batching_parameters: bool = _flag(
        False, _BATCHING, "read batching_params.pbtxt of each version; none: not batched"
    )
    runtime: str = _flag(
        "auto",
        _RUNTIME,
        "auto, onnx or saved_model; auto prefers model.onnx and needs no TensorFlow for it "
        "(not in TensorFlow Serving)",
    )
    tensorflow_session_parallelism: int = _flag(
        0, _RUNTIME, "threads of one run, where the next two are not given; 0 leaves the choice"
    )
    tensorflow_intra_op_parallelism: int = _flag(0, _RUNTIME, "threads within one operation")
    tensorflow_inter_op_parallelism: int = _flag(0, _RUNTIME, "operations run at once")
    per_process_gpu_memory_fraction: float = _flag(
        0.0, _RUNTIME, "most of a GPU's memory that TensorFlow takes; 0 sets no limit"
    )
    enable_signature_method_name_check: bool = _flag(
        False, _RUNTIME, "refuse signatures that were exported for another method"
    )
    tensorflow_session_config_file: str = _flag(
        "", _RUNTIME, "text file (tensorflow.ConfigProto) with these two, where no flag gives them"
    )
    platform_config_file: str = _flag(
        "",
        _RUNTIME,
        "text file (PlatformConfigMap) with threads, tags and batching; it takes the place of "
        "the flags for these",
    )
    saved_model_tags: str = _flag("serve", _RUNTIME, "tags of the graph in a SavedModel")
    auth_tokens_file: str = _flag(
        "",
        _ADMISSION,
        "text file with a client's name and its token on each line: calls must then carry "
        "'authorization: Bearer TOKEN' (not in TensorFlow Serving)",
    )
    requests_per_second_per_client: float = _flag(
        0.0, _ADMISSION, "calls beyond that are refused; 0 for no limit (not in TensorFlow Serving)"
    )
    request_burst_per_client: int = _flag(
        100, _ADMISSION, "calls at once after a pause (not in TensorFlow Serving)"
    )
    access_log: str = _flag(
        "",
        _WATCHING,
        "file that gets a line of JSON for each call, - for standard error "
        "(not in TensorFlow Serving)",
    )
    prefer_tflite_model: bool = _flag(
        False, _RUNTIME, "run model.tflite where a version has one; needs the extra [edge]"
    )
    num_tflite_pools: int = _flag(
        USABLE_PROCESSORS, _RUNTIME, "pools of interpreters that a version's model.tflite is run by"
    )
    num_tflite_interpreters_per_pool: int = _flag(1, _RUNTIME, "interpreters in each pool")
    enable_profiler: bool = _flag(
        True,
        _WATCHING,
        "tensorflow.ProfilerService on the gRPC port, once a SavedModel has been loaded",
    )
    monitoring_config_file: str = _flag(
        "", _WATCHING, "text file (MonitoringConfig) with the path of the metrics page"
    )

    def __post_init__(self) -> None:
        if self.runtime not in ("auto", "onnx", "saved_model"):
            raise InvalidRequestError(
                f"--runtime must be auto, onnx or saved_model; was {self.runtime}"
            )
        if self.grpc_face not in (GRPCIO, NGHTTP2):
            raise InvalidRequestError(
                f"--grpc_face must be {GRPCIO} or {NGHTTP2}; was {self.grpc_face}"
            )
        if self.server_processes < 1:
            raise InvalidRequestError(
                f"--server_processes must be at least 1; was {self.server_processes}"
            )
        if self.server_processes > 1 and self.grpc_socket_path:
            raise InvalidRequestError(
                "--grpc_socket_path can not be shared by several --server_processes"
            )
        if self.requests_per_second_per_client < 0 or self.request_burst_per_client < 1:
            raise InvalidRequestError(
                "--requests_per_second_per_client must be at least 0, and "
                "--request_burst_per_client at least 1"
            )
        for name in ("port", "rest_api_port"):
            if not 0 <= getattr(self, name) <= 65535:
                raise InvalidRequestError(f"--{name} must be 0..65535; was {getattr(self, name)}")
        for name in ("rest_api_num_threads", "rest_api_max_body_bytes"):
            if getattr(self, name) < 1:
                raise InvalidRequestError(f"--{name} must be 1 or more; was {getattr(self, name)}")
        if self.batching_parameters_file and not self.enable_batching:
            raise InvalidRequestError("--batching_parameters_file needs --enable_batching")
        if all(
            (
                self.tensorflow_session_parallelism,
                self.tensorflow_intra_op_parallelism,
                self.tensorflow_inter_op_parallelism,
            )
        ):
            raise InvalidRequestError(
                "--tensorflow_session_parallelism can not be given together with both "
                "--tensorflow_intra_op_parallelism and --tensorflow_inter_op_parallelism"
            )

    @property
    def intra_op_threads(self) -> int:
        """Threads within one operation; 0 leaves the choice to the runtime."""
        return self.tensorflow_intra_op_parallelism or self.tensorflow_session_parallelism

    @property
    def inter_op_threads(self) -> int:
        """Operations run at once; 0 leaves the choice to the runtime."""
        return self.tensorflow_inter_op_parallelism or self.tensorflow_session_parallelism


class UsageError(InvalidRequestError):
    """A flag on the command line has a value that no such flag can have."""


@dataclass(frozen=True)
class IgnoredFlag:
    """A flag that is accepted, so that scripts made for TensorFlow Serving start.

    Attributes:
        kind: Type of its value, which is checked.
        reason: Why it changes nothing.
    """

    kind: type
    reason: str


_NO_XLA = "graphs are compiled as the SavedModel says"
_NO_TPU = "there is no TPU support"

IGNORED_FLAGS: dict[str, IgnoredFlag] = {
    "flush_filesystem_caches": IgnoredFlag(bool, "the kernel gives such memory back by itself"),
    "use_alts_credentials": IgnoredFlag(bool, "--ssl_config_file secures connections"),
    "remove_unused_fields_from_bundle_metagraph": IgnoredFlag(bool, "they are never kept"),
    "xla_cpu_compilation_enabled": IgnoredFlag(bool, _NO_XLA),
    "xla_gpu_compilation_enabled": IgnoredFlag(bool, _NO_XLA),
    "thread_pool_factory_config_file": IgnoredFlag(str, "runs share the threads of batching"),
    "mixed_precision": IgnoredFlag(str, "graphs run in the precision they were exported in"),
    "skip_initialize_tpu": IgnoredFlag(bool, _NO_TPU),
}


@dataclass(frozen=True)
class CommandLine:
    """A parsed command line.

    Attributes:
        flags: The flags that have an effect.
        ignored: Names of flags that were given and change nothing.
        unknown: Arguments that are no flag of ours.
        wants_help: `--help` was given.
        wants_version: `--version` was given.
    """

    flags: ServerFlags
    ignored: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    wants_help: bool = False
    wants_version: bool = False


def parse(arguments: Sequence[str]) -> CommandLine:
    """Reads a command line.

    Args:
        arguments: What follows the program's name.

    Raises:
        UsageError: A known flag has a value of the wrong type.
        InvalidRequestError: Flags contradict each other, or a value is out of its range.
    """
    types = {item.name: type(item.default) for item in fields(ServerFlags)}
    given: dict[str, Any] = {}
    ignored: list[str] = []
    unknown: list[str] = []
    for argument in arguments:
        name, has_value, text = argument.removeprefix("--").partition("=")
        kind = types.get(name) or (IGNORED_FLAGS[name].kind if name in IGNORED_FLAGS else None)
        if argument in ("--help", "--version"):
            continue
        if not argument.startswith("--") or kind is None or not (has_value or kind is bool):
            unknown.append(argument)
            continue
        value = _convert(name, kind, text if has_value else "true")
        if name in types:
            given[name] = value
        else:
            ignored.append(name)
    return CommandLine(
        flags=ServerFlags(**given),
        ignored=tuple(ignored),
        unknown=tuple(unknown),
        wants_help="--help" in arguments,
        wants_version="--version" in arguments,
    )


def _convert(name: str, kind: type, text: str) -> Any:
    if kind is bool:
        if text.lower() not in _SWITCH_VALUES:
            raise UsageError(f"--{name} must be true, false, 1 or 0; was {text!r}")
        return _SWITCH_VALUES[text.lower()]
    try:
        if kind is not str and not _NUMBER.fullmatch(text):
            raise ValueError
        return kind(text)
    except ValueError:
        expected = {int: "a whole number", float: "a number"}[kind]
        raise UsageError(f"--{name} must be {expected}; was {text!r}") from None


def usage() -> str:
    """The help page."""
    lines = [
        "usage: python -m serving --model_name=NAME --model_base_path=FOLDER [flags]",
        "       python -m serving --model_config_file=FILE [flags]",
        "",
        "Serves models over gRPC as TensorFlow Serving does: FOLDER holds one folder per version",
        "(FOLDER/1, FOLDER/2, ...); a new version is picked up, warmed and swapped in while the",
        "old one serves. For example:",
        "",
        "  python -m serving --port=8500 --rest_api_port=8501 \\",
        "      --model_name=sentiment --model_base_path=$PWD/model_repository/sentiment",
        "",
        "Flags are written --name=value (a switch also --name). Defaults in brackets.",
    ]
    group = ""
    for item in fields(ServerFlags):
        if item.metadata["group"] != group:
            group = item.metadata["group"]
            lines += ["", f"{group}:"]
        default = str(item.default).lower() if isinstance(item.default, bool) else item.default
        lines.append(f"  --{item.name} [{default}]")
        lines += textwrap.wrap(item.metadata["text"], 94, initial_indent=_IN, subsequent_indent=_IN)
    lines += [
        "",
        "Accepted for TensorFlow Serving's sake, without effect:",
        *(f"  --{name}: {flag.reason}" for name, flag in IGNORED_FLAGS.items()),
        "",
        "  --help     prints this page",
        "  --version  prints the versions",
    ]
    return "\n".join(lines)
