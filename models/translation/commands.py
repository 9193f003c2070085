"""The translation model's part of `python -m models`."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from models.common.commands import find_subject, parse_config, ship
from models.common.config import ConfigError
from models.common.data_dir import data_dir
from models.common.plots import plot_learning_curves
from models.common.run_folder import RunFolder
from models.translation import dates, synthetic
from models.translation.config import PRESETS, TranslationConfig
from models.translation.data import Source, encode_pairs, load_source
from models.translation.evaluate import (
    Subset,
    draw_attention_maps,
    evaluate,
    load_pairs_to_evaluate,
    unseen_dates,
)
from models.translation.predict import mean_loss
from models.translation.signature import TranslationModel, load_model
from models.translation.train import train

WEIGHTS = Path(__file__).parent / "weights"
# The translators that ship: a folder of weights, and the name it is served under.
SHIPPED = {"en_fr": "translation", "dates": "translation_dates"}

# Made up instead of read, by the name in the configuration.
GENERATED = {"dates": dates.make_source, "synthetic": synthetic.make_source}
DEFAULT_RUN = Path("runs/translation")


def train_command(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Trains on the given folders, on a shared data set, or on generated dates."""
    config = parse_config(arguments, overrides, TranslationConfig, PRESETS)
    run = RunFolder(arguments.run or DEFAULT_RUN)
    metrics = train(config, _training_data(arguments, config), run, arguments.weights)
    print(json.dumps(metrics))


def _training_data(arguments: argparse.Namespace, config: TranslationConfig) -> list[Source]:
    if not arguments.data and (arguments.synthetic or config.data in GENERATED):
        return [GENERATED["synthetic" if arguments.synthetic else config.data]()]
    folders = arguments.data or [data_dir() / config.data]
    fraction = config.training.dev_fraction
    return [load_source(folder, config.languages, fraction) for folder in folders]


def ship_command(arguments: argparse.Namespace) -> None:
    """Stores the run's weights as float16 in the package, as one of the shipped models."""
    model = load_model(arguments.run or DEFAULT_RUN)
    ship(model, model.network, WEIGHTS / _shipped_name(arguments))


def evaluate_command(arguments: argparse.Namespace) -> None:
    """Measures one backend on one folder or on unseen dates; the JSON line comes last."""
    name = _shipped_name(arguments)
    served = argparse.Namespace(**{**vars(arguments), "task": SHIPPED[name]})
    subject = find_subject(served, load_model, TranslationConfig, WEIGHTS / name)
    config = subject.config
    subset = _pairs_to_evaluate(arguments, config)
    print(f"{len(subset.pairs)} pairs, split {subset.split}", file=sys.stderr)
    folder = arguments.data.name if arguments.data else config.data
    output = arguments.output or Path("runs/evaluation/translation") / folder
    metrics = evaluate(subject.backend, subset.pairs, config, output)
    report = metrics.as_dict()
    if isinstance(subject.backend, TranslationModel):
        model = subject.backend
        encoded, _ = encode_pairs(subset.pairs, model.tokenizer)
        report["perplexity"] = math.exp(mean_loss(model.network, encoded))
        draw_attention_maps(model, subset.pairs, output)
    if subject.log is not None and subject.log.is_file():
        plot_learning_curves(subject.log, output / "learning_curves.png")
    print(f"pictures, translations and metrics.json: {output}", file=sys.stderr)
    print(json.dumps(report))


def _shipped_name(arguments: argparse.Namespace) -> str:
    name = arguments.name or next(iter(SHIPPED))
    if name not in SHIPPED:
        raise ConfigError(f"unknown name {name!r}; shipped translators: {', '.join(SHIPPED)}")
    return name


def _pairs_to_evaluate(arguments: argparse.Namespace, config: TranslationConfig) -> Subset:
    if arguments.data or config.data not in GENERATED:
        folder = arguments.data or data_dir() / config.data
        return load_pairs_to_evaluate(folder, config, arguments.split)
    if config.data == "dates":
        return unseen_dates(arguments.split)
    return Subset("dev", synthetic.make_source().splits["dev"])
