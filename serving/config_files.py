"""Reads the configuration files, all of them protobuf text, and turns them into our own values."""

from __future__ import annotations

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

DEFAULT_METRICS_PATH = "/monitoring/prometheus/metrics"

# Values of the deprecated ModelConfig.model_type.
_MODEL_TYPES = {1: "tensorflow"}


@dataclass(frozen=True)
class SslOptions:
    """TLS material in PEM form; `client_verify` demands a client certificate signed by `ca`."""

    key: bytes
    certificate: bytes
    ca: bytes | None = None
    client_verify: bool = False


def read_text_proto(path: str | Path, message_type: Any) -> Any:
    """Parses a protobuf text file.

    Raises:
        InvalidRequestError: The file can not be read, or is not such a message.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        return text_format.Parse(
            text, message_type(), descriptor_pool=messages.POOL, allow_unknown_extension=False
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
    message = read_text_proto(path, messages.BatchingParameters)
    _check_allowed_sizes(message)
    values: dict[str, Any] = {
        name: getattr(message, name).value
        for name in (
            "max_batch_size",
            "batch_timeout_micros",
            "max_enqueued_batches",
            "num_batch_threads",
            "thread_pool_name",
        )
        if message.HasField(name)
    }
    if threads is not None:
        values["num_batch_threads"] = threads
    return BatchingOptions(**values)


def _check_allowed_sizes(message: Any) -> None:
    sizes = list(message.allowed_batch_sizes)
    if not sizes:
        return
    largest = message.max_batch_size.value if message.HasField("max_batch_size") else 1000
    if sizes != sorted(set(sizes)):
        raise InvalidRequestError(f"allowed_batch_sizes entries must be increasing; were {sizes}")
    if sizes[-1] != largest:
        raise InvalidRequestError(
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
            f"{sizes[-1]}; expected {largest}"
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


def command_line_model(name: str, base_path: str) -> ModelConfig:
    """The model of --model_name and --model_base_path; a relative path starts here."""
    absolute = base_path if "://" in base_path else str(Path(base_path).absolute())
    return ModelConfig(name=name, base_path=absolute)
