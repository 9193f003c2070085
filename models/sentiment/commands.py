"""The sentiment model's part of `python -m models`."""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import tyro

from models.common.backends import Backend, make_backend
from models.common.config import ConfigError, save_config
from models.common.data_dir import data_dir
from models.common.run_folder import RunFolder
from models.common.weights import save_float16
from models.sentiment.config import PRESETS, SentimentConfig
from models.sentiment.data import Source, load_source
from models.sentiment.evaluate import evaluate, load_examples_to_evaluate
from models.sentiment.signature import SentimentModel, load_model
from models.sentiment.synthetic import make_source
from models.sentiment.train import train

SHIPPED_WEIGHTS = Path(__file__).parent / "weights"
DATASETS = ("sent_imdb", "sent_sst2", "sent_mr")
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
    folders = [data_dir() / name for name in DATASETS]
    sources = [load_source(folder, config.labels, fraction) for folder in folders]
    return sources, arguments.glove or data_dir() / GLOVE_FILE


def evaluate_command(arguments: argparse.Namespace) -> None:
    """Measures one backend on one folder; the JSON line comes last."""
    model = load_model(arguments.run or SHIPPED_WEIGHTS)
    fraction = model.config.training.dev_fraction
    folder = arguments.data or data_dir() / DATASETS[0]
    split, examples = load_examples_to_evaluate(folder, model.labels, arguments.split, fraction)
    print(f"{len(examples)} texts of {folder}, split {split}", file=sys.stderr)
    output = arguments.output or Path("runs/evaluation/sentiment") / folder.name
    metrics = evaluate(_backend(arguments, model), examples, model.labels, output)
    print(f"pictures and metrics.json: {output}", file=sys.stderr)
    print(json.dumps(metrics.as_dict()))


def _backend(arguments: argparse.Namespace, model: SentimentModel) -> Backend:
    if arguments.backend == "keras":
        return model
    return make_backend(
        arguments.backend,
        "sentiment",
        version_folder=arguments.version_folder,
        repository=arguments.repository,
        target=arguments.target,
    )


def ship_command(arguments: argparse.Namespace) -> None:
    """Stores the run's weights as float16 in the package."""
    model = load_model(arguments.run or DEFAULT_RUN)
    shipped = RunFolder(SHIPPED_WEIGHTS)
    shutil.rmtree(shipped.path, ignore_errors=True)
    shipped.path.mkdir()
    save_float16(model.network.model, shipped.float16_weights)
    shutil.copytree(model.run.assets, shipped.assets)
    save_config(model.config, shipped.config)
    shipped.write_details(dict(model.details))
    size = sum(file.stat().st_size for file in shipped.path.rglob("*") if file.is_file())
    print(f"{shipped.path}: {size / 2**20:.2f} MiB", file=sys.stderr)
