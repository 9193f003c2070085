"""The segmentation model's part of `python -m models`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from models.common.commands import find_subject, parse_config, ship
from models.common.data_dir import data_dir
from models.common.plots import plot_learning_curves
from models.common.run_folder import RunFolder
from models.segmentation.config import PRESETS, SegmentationConfig
from models.segmentation.data import Source, load_source
from models.segmentation.evaluate import evaluate, load_examples_to_evaluate
from models.segmentation.signature import load_model
from models.segmentation.synthetic import make_source
from models.segmentation.train import train

SHIPPED_WEIGHTS = Path(__file__).parent / "weights"
DEFAULT_RUN = Path("runs/segmentation")


def train_command(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Trains on the given folders, on the preset's shared data set, or on made-up images."""
    config = parse_config(arguments, overrides, SegmentationConfig, PRESETS)
    sources = _sources(arguments, config)
    run = RunFolder(arguments.run or DEFAULT_RUN)
    metrics = train(config, sources, run, getattr(arguments, "weights", None))
    print(json.dumps(metrics))


def _sources(arguments: argparse.Namespace, config: SegmentationConfig) -> list[Source]:
    if arguments.synthetic:
        return [make_source()]
    folders = arguments.data or [data_dir() / config.data]
    fraction = config.training.dev_fraction
    return [load_source(folder, config.labels, config.void_value, fraction) for folder in folders]


def evaluate_command(arguments: argparse.Namespace) -> None:
    """Measures one backend on one folder; the JSON line comes last."""
    subject = find_subject(arguments, load_model, SegmentationConfig, SHIPPED_WEIGHTS)
    config = subject.config
    folder = arguments.data or data_dir() / config.data
    split, examples = load_examples_to_evaluate(folder, config, arguments.split)
    print(f"{len(examples)} images of {folder}, split {split}", file=sys.stderr)
    output = arguments.output or Path("runs/evaluation/segmentation") / folder.name
    report = evaluate(subject.backend, examples, config.labels, output)
    if subject.log is not None and subject.log.is_file():
        plot_learning_curves(subject.log, output / "learning_curves.png")
    print(f"pictures and metrics.json: {output}", file=sys.stderr)
    print(json.dumps(report.as_dict()))


def ship_command(arguments: argparse.Namespace) -> None:
    """Stores the run's weights as float16 in the package."""
    model = load_model(arguments.run or DEFAULT_RUN)
    ship(model, model.network, SHIPPED_WEIGHTS)
