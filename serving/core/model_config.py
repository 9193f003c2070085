"""Which models are to be served, and which of their versions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from protocol.errors import InvalidRequestError

PLATFORMS = ("tensorflow", "onnxruntime")


@dataclass(frozen=True)
class LatestVersions:
    """Serves the `count` highest version numbers."""

    count: int = 1

    def choose(self, versions: Iterable[int]) -> list[int]:
        """The wanted ones among `versions`, highest first."""
        return sorted(versions, reverse=True)[: max(self.count, 1)]


@dataclass(frozen=True)
class AllVersions:
    """Serves every version."""

    def choose(self, versions: Iterable[int]) -> list[int]:
        """All of `versions`, highest first."""
        return sorted(versions, reverse=True)


@dataclass(frozen=True)
class SpecificVersions:
    """Serves exactly the listed versions, where they exist."""

    versions: frozenset[int]

    def choose(self, versions: Iterable[int]) -> list[int]:
        """The listed ones among `versions`, highest first."""
        return sorted(self.versions.intersection(versions), reverse=True)


VersionPolicy = LatestVersions | AllVersions | SpecificVersions


@dataclass(frozen=True)
class RequestLogConfig:
    """Where samples of a model's requests are written, and the share of them, 0 to 1."""

    filename_prefix: str
    sampling_rate: float


@dataclass(frozen=True)
class ModelConfig:
    """One served model: where its versions lie, which are wanted, and its labels."""

    name: str
    base_path: str
    platform: str = "tensorflow"
    policy: VersionPolicy = LatestVersions()
    labels: Mapping[str, int] = field(default_factory=dict)
    request_log: RequestLogConfig | None = None

    @property
    def folder(self) -> Path:
        """The base path as a local folder; a `file://` address is accepted."""
        address = urlsplit(self.base_path)
        return Path(address.path if address.scheme == "file" else self.base_path)


def check_model_configs(
    configs: Sequence[ModelConfig], current: Mapping[str, ModelConfig] | None = None
) -> None:
    """Checks a new list of models against itself and against the models served now.

    Raises:
        InvalidRequestError: A model is listed twice, lacks a name, has an unknown or a changed
            platform, or a base path that is not absolute.
    """
    seen: set[str] = set()
    for config in configs:
        if not config.name:
            raise InvalidRequestError("A model in the config list has no name")
        if config.name in seen:
            raise InvalidRequestError(
                f"Illegal to list model {config.name} multiple times in config list"
            )
        seen.add(config.name)
        _check_platform(config, (current or {}).get(config.name))
        _check_base_path(config)


def _check_platform(config: ModelConfig, served: ModelConfig | None) -> None:
    if not config.platform:
        raise InvalidRequestError(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            f"ModelServerConfig::model_platform, model name is {config.name}"
        )
    if config.platform not in PLATFORMS:
        raise InvalidRequestError(
            f"Model {config.name} requests unsupported platform {config.platform}; "
            f"supported: {', '.join(PLATFORMS)}"
        )
    if served is not None and served.platform != config.platform:
        raise InvalidRequestError(
            f"Illegal to change a model's platform. For model {config.name} platform was "
            f"{served.platform} and new platform requested is {config.platform}"
        )


def _check_base_path(config: ModelConfig) -> None:
    address = urlsplit(config.base_path)
    if "://" in config.base_path and address.scheme != "file":
        raise InvalidRequestError(
            f"Model {config.name} has base path {config.base_path}: only local folders and "
            "file:// addresses are supported"
        )
    if not config.folder.is_absolute():
        raise InvalidRequestError(
            f"Expected model {config.name} to have an absolute path or URI; "
            f"got base_path()={config.base_path}"
        )
