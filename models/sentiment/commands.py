"""The sentiment model's part of `python -m models`."""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from models.common.backends import (
    Backend,
    GrpcBackend,
    OnnxBackend,
    SavedModelBackend,
    newest_version,
)
from models.common.config import ConfigError, from_dict, load_config, save_config
from models.common.data_dir import data_dir
from models.common.plots import plot_learning_curves
from models.common.run_folder import RunFolder
from models.common.weights import save_float16
from models.sentiment.config import PRESETS, SentimentConfig
from models.sentiment.data import SHARED_DATASETS, Source, load_source
from models.sentiment.evaluate import evaluate, load_examples_to_evaluate
from models.sentiment.signature import load_model
from models.sentiment.synthetic import make_source
from models.sentiment.train import train
from protocol.version_folder import Manifest

SHIPPED_WEIGHTS = Path(__file__).parent / "weights"
GLOVE_FILE = "embeddings/glove.6B.50d.top30k.txt.gz"
DEFAULT_RUN = Path("runs/sentiment")


def train_command(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Trains on the given folders, on the shared datasets, or on synthetic reviews."""
    if arguments.preset not in PRESETS:
        raise ConfigError(f"unknown preset {arguments.preset!r}; presets: {', '.join(PRESETS)}")
    overrides = ["--help"] if arguments.config_help else overrides
    config = tyro.cli(
        SentimentConfig,
        prog="python -m models train sentiment",
        default=PRESETS[arguments.preset],
        args=list(overrides),
    )
    sources, glove = _training_data(arguments, config)
    run = RunFolder(arguments.run or DEFAULT_RUN)
    metrics = train(config, sources, run, glove)
    print(json.dumps(metrics))


def _training_data(
    arguments: argparse.Namespace, config: SentimentConfig
) -> tuple[list[Source], Path | None]:
    if arguments.synthetic:
        return [make_source()], None
    fraction = config.training.dev_fraction
    if arguments.data:
        sources = [load_source(folder, config.labels, fraction) for folder in arguments.data]
        return sources, arguments.glove
    folders = [data_dir() / name for name in SHARED_DATASETS]
    sources = [load_source(folder, config.labels, fraction) for folder in folders]
    return sources, arguments.glove or data_dir() / GLOVE_FILE


def evaluate_command(arguments: argparse.Namespace) -> None:
    """Measures one backend on one folder; the JSON line comes last."""
    subject = _subject(arguments)
    config = subject.config
    folder = arguments.data or data_dir() / SHARED_DATASETS[0]
    split, examples = load_examples_to_evaluate(
        folder, config.labels, arguments.split, config.training.dev_fraction
    )
    print(f"{len(examples)} texts of {folder}, split {split}", file=sys.stderr)
    output = arguments.output or Path("runs/evaluation/sentiment") / folder.name
    metrics = evaluate(subject.backend, examples, config.labels, output)
    if subject.log is not None and subject.log.is_file():
        plot_learning_curves(subject.log, output / "learning_curves.png")
    print(f"pictures and metrics.json: {output}", file=sys.stderr)
    print(json.dumps(metrics.as_dict()))


@dataclass(frozen=True)
class _Subject:
    """What is evaluated, the configuration it was trained with, and its log where there is one."""

    backend: Backend
    config: SentimentConfig
    log: Path | None = None


def _subject(arguments: argparse.Namespace) -> _Subject:
    run = RunFolder(arguments.run or SHIPPED_WEIGHTS)
    if arguments.backend == "keras":
        model = load_model(run.path)
        return _Subject(model, model.config, run.log)
    if arguments.backend == "grpc":
        backend: Backend = GrpcBackend(arguments.target, "sentiment")
        return _Subject(backend, load_config(SentimentConfig, run.config))
    folder = arguments.version_folder or newest_version(arguments.repository, "sentiment")
    backend = (
        SavedModelBackend(folder) if arguments.backend == "saved_model" else OnnxBackend(folder)
    )
    return _Subject(backend, from_dict(SentimentConfig, Manifest.read(folder).config))


def ship_command(arguments: argparse.Namespace) -> None:
    """Stores the run's weights as float16 in the package."""
    model = load_model(arguments.run or DEFAULT_RUN)
    shipped = RunFolder(SHIPPED_WEIGHTS)
    shutil.rmtree(shipped.path, ignore_errors=True)
    shipped.path.mkdir()
    save_float16(model.network.model, shipped.float16_weights)
    shutil.copytree(model.run.assets, shipped.assets)
    save_config(model.config, shipped.config)
    shipped.log.write_text(model.run.log.read_text(encoding="utf-8"), encoding="utf-8")
    shipped.write_details(dict(model.details))
    size = sum(file.stat().st_size for file in shipped.path.rglob("*") if file.is_file())
    print(f"{shipped.path}: {size / 2**20:.2f} MiB", file=sys.stderr)
