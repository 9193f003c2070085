"""The sentiment model's part of `python -m models`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from models.common.commands import find_subject, parse_config, ship
from models.common.data_dir import data_dir
from models.common.plots import plot_learning_curves
from models.common.run_folder import RunFolder
from models.sentiment.config import PRESETS, SentimentConfig
from models.sentiment.data import SHARED_DATASETS, Source, load_source
from models.sentiment.evaluate import evaluate, load_examples_to_evaluate
from models.sentiment.signature import load_model
from models.sentiment.synthetic import make_source
from models.sentiment.train import train

SHIPPED_WEIGHTS = Path(__file__).parent / "weights"
GLOVE_FILE = "embeddings/glove.6B.50d.top30k.txt.gz"
DEFAULT_RUN = Path("runs/sentiment")


def train_command(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Trains on the given folders, on the shared datasets, or on synthetic reviews."""
    config = parse_config(arguments, overrides, SentimentConfig, PRESETS)
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
    subject = find_subject(arguments, load_model, SentimentConfig, SHIPPED_WEIGHTS)
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


def ship_command(arguments: argparse.Namespace) -> None:
    """Stores the run's weights as float16 in the package."""
    model = load_model(arguments.run or DEFAULT_RUN)
    ship(model, model.network.model, SHIPPED_WEIGHTS)
