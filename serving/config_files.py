"""Reads the configuration files, all of them protobuf text, and turns them into our own values."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from protocol import messages
from protocol.errors import InvalidRequestError
from serving.core.batching import BatchingOptions
from serving.core.model_config import (
    AllVersions,
    LatestVersions,
    ModelConfig,
    RequestLogConfig,
    SpecificVersions,
    VersionPolicy,
)

log = logging.getLogger(__name__)

DEFAULT_METRICS_PATH = "/monitoring/prometheus/metrics"

# Fields of BatchingParameters that are wrapped in a message, so that they can be left out.
_BATCHING_VALUES = (
    "max_batch_size",
    "batch_timeout_micros",
    "max_enqueued_batches",
    "num_batch_threads",
    "thread_pool_name",
    "enable_large_batch_splitting",
    "max_execution_batch_size",
)

# Values of the deprecated ModelConfig.model_type.
_MODEL_TYPES = {1: "tensorflow"}


@dataclass(frozen=True)
class SslOptions:
    """TLS material in PEM form; `client_verify` demands a client certificate signed by `ca`."""

    key: bytes
    certificate: bytes
    ca: bytes | None = None
    client_verify: bool = False


@dataclass(frozen=True)
class SessionThreads:
    """Threads within one operation, and operations run at once; 0 leaves the choice."""

    intra_op: int = 0
    inter_op: int = 0


@dataclass(frozen=True)
class PlatformOptions:
    """What a platform config file sets; it takes the place of the flags for the same.

    Attributes:
        session: Threads of a session.
        batching: How requests are joined; None joins none.
        saved_model_tags: Tags of the graph in a SavedModel; empty if not set.
    """

    session: SessionThreads = SessionThreads()
    batching: BatchingOptions | None = None
    saved_model_tags: tuple[str, ...] = ()


def read_text_proto(
    path: str | Path, message_type: Any, *, allow_unknown_field: bool = False
) -> Any:
    """Parses a protobuf text file.

    Args:
        path: The file.
        message_type: What it holds.
        allow_unknown_field: Pass over fields that the message does not have.

    Raises:
        InvalidRequestError: The file can not be read, or is not such a message.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        return text_format.Parse(
            text,
            message_type(),
            descriptor_pool=messages.POOL,
            allow_unknown_field=allow_unknown_field,
        )
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"Can not read file '{path}': {error}") from error
    except text_format.ParseError as error:
        name = message_type.DESCRIPTOR.full_name
        raise InvalidRequestError(
            f"Invalid protobuf file: '{path}' is not a {name} in text form: {error}"
        ) from error


def read_model_configs(path: str | Path) -> list[ModelConfig]:
    """Reads a model config file.

    Raises:
        InvalidRequestError: The file can not be read, or lists models in another way.
    """
    return model_configs(read_text_proto(path, messages.ModelServerConfig))


def model_configs(config: Any) -> list[ModelConfig]:
    """Reads a `ModelServerConfig` message.

    Raises:
        InvalidRequestError: It holds something else than a model_config_list.
    """
    kind = config.WhichOneof("config")
    if kind is None:
        return []
    if kind != "model_config_list":
        raise InvalidRequestError(f"Only model_config_list is supported; found {kind}")
    return [_model_config(model) for model in config.model_config_list.config]


def _model_config(model: Any) -> ModelConfig:
    return ModelConfig(
        name=model.name,
        base_path=model.base_path,
        platform=model.model_platform or _MODEL_TYPES.get(model.model_type, ""),
        policy=_version_policy(model.model_version_policy),
        labels=dict(model.version_labels),
        request_log=_request_log(model.name, model.logging_config),
    )


def _request_log(name: str, config: Any) -> RequestLogConfig | None:
    prefix, rate = config.log_collector_config.filename_prefix, config.sampling_config.sampling_rate
    if not rate:
        return None
    if not prefix or not 0 < rate <= 1:
        raise InvalidRequestError(
            f"logging_config of model {name} must have a filename_prefix and a sampling_rate in "
            f"0..1; was {prefix!r}, {rate}"
        )
    return RequestLogConfig(prefix, rate)


def _version_policy(policy: Any) -> VersionPolicy:
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return AllVersions()
    if kind == "specific":
        return SpecificVersions(frozenset(policy.specific.versions))
    if kind == "latest" and policy.latest.num_versions:
        return LatestVersions(policy.latest.num_versions)
    return LatestVersions()


def read_batching_options(path: str | Path, *, threads: int | None = None) -> BatchingOptions:
    """Reads a batching parameters file.

    Args:
        path: The file.
        threads: Overrides num_batch_threads, which is one number for the whole server.

    Raises:
        InvalidRequestError: The file can not be read, or holds an impossible value.
    """
    return batching_options(read_text_proto(path, messages.BatchingParameters), threads=threads)


def batching_options(message: Any, *, threads: int | None = None) -> BatchingOptions:
    """Reads a `BatchingParameters` message; see `read_batching_options`.

    Raises:
        InvalidRequestError: It holds an impossible value.
    """
    values: dict[str, Any] = {
        name: getattr(message, name).value for name in _BATCHING_VALUES if message.HasField(name)
    }
    if threads is not None:
        values["num_batch_threads"] = threads
    return BatchingOptions(
        **values,
        allowed_batch_sizes=tuple(message.allowed_batch_sizes),
        pad_variable_length_inputs=message.pad_variable_length_inputs,
    )


def read_metrics_path(path: str | Path) -> str:
    """Reads a monitoring config file.

    Returns:
        The path of the metrics page; empty if the file switches it off.

    Raises:
        InvalidRequestError: The file can not be read, or the path is no URL path.
    """
    config = read_text_proto(path, messages.MonitoringConfig).prometheus_config
    if not config.enable:
        return ""
    metrics_path: str = config.path or DEFAULT_METRICS_PATH
    if not metrics_path.startswith("/"):
        raise InvalidRequestError(f"The metrics path must start with /; was {metrics_path}")
    return metrics_path


def read_ssl_options(path: str | Path) -> SslOptions:
    """Reads an SSL config file.

    Raises:
        InvalidRequestError: The file can not be read, or lacks the key or the certificate.
    """
    config = read_text_proto(path, messages.SSLConfig)
    if not config.server_key or not config.server_cert:
        raise InvalidRequestError(f"'{path}' must give both server_key and server_cert")
    if config.client_verify and not config.custom_ca:
        raise InvalidRequestError(f"'{path}' sets client_verify, which needs custom_ca")
    return SslOptions(
        key=config.server_key.encode(),
        certificate=config.server_cert.encode(),
        ca=config.custom_ca.encode() or None,
        client_verify=config.client_verify,
    )


def read_session_threads(path: str | Path) -> SessionThreads:
    """Reads a session config file, a `tensorflow.ConfigProto`; its other fields change nothing.

    Raises:
        InvalidRequestError: The file can not be read, or is no protobuf text.
    """
    return _session_threads(_read_known_fields(path, messages.SessionConfig))


def read_platform_options(path: str | Path) -> PlatformOptions:
    """Reads a platform config file: what it says of the platform `tensorflow`.

    Raises:
        InvalidRequestError: The file can not be read, describes another kind of platform, or
            holds an impossible value.
    """
    platforms = _read_known_fields(path, messages.PlatformConfigMap).platform_configs
    if "tensorflow" not in platforms:
        raise InvalidRequestError(
            f"'{path}' must have the key \"tensorflow\"; found: {', '.join(platforms) or 'none'}"
        )
    packed = platforms["tensorflow"].source_adapter_config
    adapter = messages.SavedModelBundleSourceAdapterConfig()
    if not packed.Unpack(adapter):
        raise InvalidRequestError(
            f"'{path}': source_adapter_config must be a {adapter.DESCRIPTOR.full_name}; was "
            f"{packed.TypeName() or 'not set'}"
        )
    legacy = adapter.legacy_config
    has_batching = legacy.HasField("batching_parameters")
    return PlatformOptions(
        session=_session_threads(legacy.session_config),
        batching=batching_options(legacy.batching_parameters) if has_batching else None,
        saved_model_tags=tuple(legacy.saved_model_tags),
    )


def _session_threads(config: Any) -> SessionThreads:
    return SessionThreads(config.intra_op_parallelism_threads, config.inter_op_parallelism_threads)


def _read_known_fields(path: str | Path, message_type: Any) -> Any:
    """Parses a file of a message of which we know a part, and tells what is passed over."""
    try:
        return read_text_proto(path, message_type)
    except InvalidRequestError as error:
        message = read_text_proto(path, message_type, allow_unknown_field=True)
        log.warning("A part of the file changes nothing here: %s", error)
        return message


def command_line_model(name: str, base_path: str) -> ModelConfig:
    """The model of --model_name and --model_base_path; a relative path starts here."""
    absolute = base_path if "://" in base_path else str(Path(base_path).absolute())
    return ModelConfig(name=name, base_path=absolute)
