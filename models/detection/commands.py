"""The detector's part of `python -m models`."""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from models.common.commands import find_subject, parse_config, ship
from models.common.config import ConfigError
from models.common.data_dir import data_dir
from models.common.plots import plot_learning_curves
from models.common.run_folder import RunFolder
from models.detection.config import PRESETS, SHARED_DATASETS, DetectionConfig
from models.detection.data import Source, load_source
from models.detection.evaluate import evaluate, load_images_to_evaluate
from models.detection.signature import load_model
from models.detection.synthetic import write_source
from models.detection.train import train

SHIPPED_WEIGHTS = Path(__file__).parent / "weights"
DEFAULT_RUN = Path("runs/detection")
DEFAULT_EVALUATION = Path("runs/evaluation/detection")


def train_command(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Trains on the given folder, on the preset's shared set, or on drawn shapes."""
    config = parse_config(arguments, overrides, DetectionConfig, PRESETS)
    run = RunFolder(arguments.run or DEFAULT_RUN)
    with tempfile.TemporaryDirectory() as scratch:
        source = _training_source(arguments, config, Path(scratch))
        metrics = train(config, source, run, arguments.weights)
    print(json.dumps({"map50": metrics.map50, "map": metrics.map}))


def _training_source(
    arguments: argparse.Namespace, config: DetectionConfig, scratch: Path
) -> Source:
    if arguments.synthetic:
        return write_source(scratch)
    if arguments.data and len(arguments.data) > 1:
        raise ConfigError(f"detection trains on one folder, got {len(arguments.data)}")
    if arguments.data:
        folder = arguments.data[0]
    elif arguments.preset in SHARED_DATASETS:
        folder = data_dir() / SHARED_DATASETS[arguments.preset]
    else:
        raise ConfigError(f"preset {arguments.preset!r} needs --data DIR or --synthetic")
    return load_source(folder, config.labels, config.training.dev_fraction)


def evaluate_command(arguments: argparse.Namespace) -> None:
    """Measures one backend on one folder; the JSON line comes last."""
    subject = find_subject(arguments, load_model, DetectionConfig, SHIPPED_WEIGHTS)
    config = subject.config
    folder = arguments.data or data_dir() / SHARED_DATASETS["base"]
    split, images = load_images_to_evaluate(
        folder, config.labels, arguments.split, config.training.dev_fraction
    )
    print(f"{len(images)} images of {folder}, split {split}", file=sys.stderr)
    output = arguments.output or DEFAULT_EVALUATION / folder.name
    report = evaluate(subject.backend, images, config, output, split)
    if subject.log is not None and subject.log.is_file():
        plot_learning_curves(subject.log, output / "learning_curves.png")
    print(f"pictures and metrics.json: {output}", file=sys.stderr)
    print(json.dumps(report.as_dict()))


def ship_command(arguments: argparse.Namespace) -> None:
    """Stores the run's weights as float16 in the package."""
    model = load_model(arguments.run or DEFAULT_RUN)
    ship(model, model.network, SHIPPED_WEIGHTS)
