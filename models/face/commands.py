"""The face model's part of `python -m models`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from models.common.commands import find_subject, parse_config, ship
from models.common.config import ConfigError
from models.common.data_dir import data_dir
from models.common.plots import plot_learning_curves
from models.common.run_folder import RunFolder
from models.face.config import PRESETS, FaceConfig
from models.face.data import Source, load_source
from models.face.evaluate import evaluate
from models.face.signature import load_model
from models.face.synthetic import make_source
from models.face.train import train

SHIPPED_WEIGHTS = Path(__file__).parent / "weights"
DEFAULT_RUN = Path("runs/face")
# Folders under DATA_DIR that a preset learns from.
SHARED_DATASETS = {"base": "faces_lfw", "orl": "faces_orl"}


def train_command(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Trains on the given folder, on the preset's shared dataset, or on synthetic faces."""
    config = parse_config(arguments, overrides, FaceConfig, PRESETS)
    run = RunFolder(arguments.run or DEFAULT_RUN)
    metrics = train(config, _training_data(arguments, config), run, arguments.weights)
    print(json.dumps(metrics))


def _training_data(arguments: argparse.Namespace, config: FaceConfig) -> Source:
    if arguments.synthetic:
        return make_source(config.training)
    folders = arguments.data or [data_dir() / SHARED_DATASETS.get(arguments.preset, "faces_lfw")]
    if len(folders) > 1:
        raise ConfigError(f"the face model trains on one data folder, got {len(folders)}")
    return load_source(folders[0], config.training)


def evaluate_command(arguments: argparse.Namespace) -> None:
    """Measures one backend on one folder; the JSON line comes last."""
    subject = find_subject(arguments, load_model, FaceConfig, SHIPPED_WEIGHTS)
    folder = arguments.data or data_dir() / SHARED_DATASETS["base"]
    split, faces = load_source(folder, subject.config.training).choose(arguments.split)
    print(f"{len(faces.faces)} pictures of {folder}, split {split}", file=sys.stderr)
    output = arguments.output or Path("runs/evaluation/face") / folder.name
    report = evaluate(subject.backend, split, faces, subject.details["thresholds"], output)
    if subject.log is not None and subject.log.is_file():
        plot_learning_curves(subject.log, output / "learning_curves.png")
    print(f"pictures and metrics.json: {output}", file=sys.stderr)
    print(json.dumps(report))


def ship_command(arguments: argparse.Namespace) -> None:
    """Stores the run's weights as float16 in the package."""
    model = load_model(arguments.run or DEFAULT_RUN)
    ship(model, model.network, SHIPPED_WEIGHTS)
