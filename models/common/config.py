"""Configuration as frozen dataclasses: to and from JSON, and the checks they share."""

import dataclasses
import json
import types
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

ConfigT = TypeVar("ConfigT")


class ConfigError(ValueError):
    """A configuration field has a value that is not allowed."""


def require_positive(config: object, *names: str) -> None:
    """Raises ConfigError unless each named field of `config` is a number above zero."""
    for name in names:
        value = getattr(config, name)
        if not value > 0:
            raise ConfigError(f"{type(config).__name__}.{name} must be above 0, got {value!r}")


def require_fraction(config: object, *names: str) -> None:
    """Raises ConfigError unless each named field of `config` lies in [0, 1)."""
    for name in names:
        value = getattr(config, name)
        if not 0 <= value < 1:
            raise ConfigError(f"{type(config).__name__}.{name} must lie in [0, 1), got {value!r}")


def require_choice(config: object, name: str, allowed: Collection[str]) -> None:
    """Raises ConfigError unless the named field of `config` is one of `allowed`."""
    value = getattr(config, name)
    if value not in allowed:
        choices = ", ".join(sorted(allowed))
        raise ConfigError(f"{type(config).__name__}.{name} must be one of {choices}; got {value!r}")


def to_dict(config: Any) -> dict[str, Any]:
    """Returns the configuration as nested dicts of JSON values (tuples become lists)."""
    return typing.cast(dict[str, Any], json.loads(json.dumps(dataclasses.asdict(config))))


def from_dict(cls: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
    """Builds a (nested) configuration dataclass from `to_dict`'s output.

    Args:
        cls: the dataclass to build.
        values: its fields; those left out keep their defaults.

    Raises:
        ConfigError: for a field the dataclass does not have, or a value it refuses.
    """
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(
            f"{cls.__name__} has no field {', '.join(unknown)}; fields: {', '.join(hints)}"
        )
    return cls(**{name: _convert(hints[name], value) for name, value in values.items()})


def _convert(hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value)
    if typing.get_origin(hint) is tuple:
        return tuple(value)
    if typing.get_origin(hint) in (typing.Union, types.UnionType) and isinstance(value, list):
        return tuple(value)
    return value


def save_config(config: Any, path: Path) -> None:
    """Writes the configuration as indented JSON."""
    path.write_text(json.dumps(to_dict(config), indent=2) + "\n", encoding="utf-8")


def load_config(cls: type[ConfigT], path: Path) -> ConfigT:
    """Reads a configuration that `save_config` wrote."""
    return from_dict(cls, json.loads(path.read_text(encoding="utf-8")))
