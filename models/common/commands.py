"""What the commands of every model package share: settings, the model to measure, shipping."""

import argparse
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import keras
import tyro

from models.common.backends import (
    Backend,
    GrpcBackend,
    OnnxBackend,
    SavedModelBackend,
    newest_version,
)
from models.common.config import ConfigError, from_dict, load_config, save_config
from models.common.run_folder import RunFolder
from models.common.weights import save_float16
from protocol.version_folder import Manifest

ConfigT = TypeVar("ConfigT")


class TrainedModel(Backend, Protocol):
    """A model as its package's `load_model` returns it."""

    @property
    def config(self) -> Any:
        """What defines it."""

    @property
    def run(self) -> RunFolder:
        """Where it came from."""

    @property
    def details(self) -> Mapping[str, Any]:
        """What `run.json` says."""


def parse_config(
    arguments: argparse.Namespace,
    overrides: Sequence[str],
    config_class: type[ConfigT],
    presets: Mapping[str, ConfigT],
) -> ConfigT:
    """Returns the named preset with the fields changed that the command line sets.

    Args:
        arguments: those of `python -m models train`.
        overrides: what is left of the command line, e.g. `--training.epochs 3`.
        config_class: the model's configuration.
        presets: its named configurations.

    Raises:
        ConfigError: for an unknown preset.
        SystemExit: for an unknown field or a value it refuses; the message is printed.
    """
    if arguments.preset not in presets:
        raise ConfigError(f"unknown preset {arguments.preset!r}; presets: {', '.join(presets)}")
    return tyro.cli(
        config_class,
        prog=f"python -m models train {arguments.task}",
        default=presets[arguments.preset],
        args=["--help"] if arguments.config_help else list(overrides),
    )


@dataclass(frozen=True)
class Subject(Generic[ConfigT]):
    """What is evaluated.

    Attributes:
        backend: answers `serving_default`.
        config: the configuration it was trained with.
        details: what else belongs to the model, by the names in `run.json`.
        log: the training's log, where there is one.
    """

    backend: Backend
    config: ConfigT
    details: Mapping[str, Any]
    log: Path | None = None


def find_subject(
    arguments: argparse.Namespace,
    load_model: Callable[[Path], TrainedModel],
    config_class: type[ConfigT],
    shipped: Path,
) -> Subject[ConfigT]:
    """Finds the model that `python -m models evaluate` names.

    Args:
        arguments: those of the command.
        load_model: loads a run folder.
        config_class: the model's configuration.
        shipped: the run folder of the weights in the package.

    Raises:
        FileNotFoundError: if there is no such run or version.
    """
    run = RunFolder(arguments.run or shipped)
    if arguments.backend == "keras":
        model = load_model(run.path)
        return Subject(model, model.config, model.details, run.log)
    if arguments.backend == "grpc":
        backend: Backend = GrpcBackend(arguments.target, arguments.task)
        return Subject(backend, load_config(config_class, run.config), run.read_details())
    folder = arguments.version_folder or newest_version(arguments.repository, arguments.task)
    manifest = Manifest.read(folder)
    backend = (
        SavedModelBackend(folder) if arguments.backend == "saved_model" else OnnxBackend(folder)
    )
    details = {"labels": manifest.labels, "metrics": manifest.metrics, **manifest.pipeline}
    return Subject(backend, from_dict(config_class, manifest.config), details)


def ship(model: TrainedModel, network: keras.Model, folder: Path) -> None:
    """Stores a run's weights as float16, with all that loading them needs.

    Args:
        model: the loaded run.
        network: its Keras model.
        folder: `models/<name>/weights`; what it held before is replaced.
    """
    shipped = RunFolder(folder)
    shutil.rmtree(shipped.path, ignore_errors=True)
    shipped.path.mkdir(parents=True)
    save_float16(network, shipped.float16_weights)
    if model.run.assets.is_dir() and any(model.run.assets.iterdir()):
        shutil.copytree(model.run.assets, shipped.assets)
    save_config(model.config, shipped.config)
    shipped.log.write_text(model.run.log.read_text(encoding="utf-8"), encoding="utf-8")
    shipped.write_details(dict(model.details))
    size = sum(file.stat().st_size for file in shipped.path.rglob("*") if file.is_file())
    print(f"{shipped.path}: {size / 2**20:.2f} MiB", file=sys.stderr)
