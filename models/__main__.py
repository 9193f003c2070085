"""Trains, evaluates and ships models: `python -m models COMMAND TASK`."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from models.common.backends import BACKENDS
from models.common.config import ConfigError
from models.common.logs import configure_logging
from models.common.splits import DataError

TASKS = ("face", "detection", "segmentation", "translation", "sentiment")

DESCRIPTION = """\
Train, evaluate and ship the models.

  python -m models train sentiment --preset tiny --synthetic --run runs/tiny
  python -m models train sentiment --data DIR DIR --glove glove.txt --run runs/mine
  python -m models train detection --data DIR --weights best.weights.h5 --run runs/mine
  python -m models evaluate sentiment --data DIR --backend keras --run runs/mine
  python -m models ship sentiment --run runs/mine

A run folder holds the configuration, a CSV log, the best and the last weights, learning curves
and all that `python -m export` needs. Training that was interrupted resumes when started again.
"""


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m models",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_train(commands.add_parser("train", help="train a model and write a run folder"))
    _add_evaluate(commands.add_parser("evaluate", help="measure a model; prints one JSON line"))
    _add_ship(commands.add_parser("ship", help="store a run's weights as float16 in the package"))
    return parser


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--preset", default="base", help="named configuration (base, tiny ...)")
    parser.add_argument("--run", type=Path, help="run folder (default: runs/TASK)")
    parser.add_argument("--data", type=Path, nargs="+", help="data folders")
    parser.add_argument("--synthetic", action="store_true", help="train on made-up data instead")
    parser.add_argument("--glove", type=Path, help="word vectors to start from (text models)")
    parser.add_argument(
        "--weights", type=Path, help="a .weights.h5 file to start from (vision models)"
    )
    parser.epilog = (
        "Any field of the configuration can be set too, e.g. --network.recurrent gru "
        "--training.epochs 3; --config-help lists them all."
    )
    parser.add_argument("--config-help", action="store_true", help="list the configuration fields")


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--data", type=Path, help="data folder in the training layout")
    parser.add_argument(
        "--split", help="train, dev, test or all (default: test, else dev, else all)"
    )
    parser.add_argument("--backend", choices=BACKENDS, default="keras")
    parser.add_argument("--run", type=Path, help="run folder for keras (default: shipped weights)")
    parser.add_argument(
        "--version-folder",
        type=Path,
        help="for saved_model and onnx (default: the newest version in --repository)",
    )
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--target", default="localhost:8500", help="for grpc: host:port")
    parser.add_argument("--output", type=Path, help="folder for metrics.json and pictures")
    parser.add_argument("--name", help="translation: en_fr (default) or dates")


def _add_ship(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--run", type=Path, help="run folder (default: runs/TASK)")
    parser.add_argument("--name", help="translation: becomes en_fr (default) or dates")


def run_command(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the parsed command; imports Keras only now, so that --help is quick."""
    commands = importlib.import_module(f"models.{arguments.task}.commands")
    if arguments.command == "train":
        commands.train_command(arguments, overrides)
    elif arguments.command == "evaluate":
        commands.evaluate_command(arguments)
    else:
        commands.ship_command(arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    configure_logging()
    parser = build_parser()
    arguments, overrides = parser.parse_known_args(argv)
    if overrides and arguments.command != "train":
        parser.error(f"unrecognized arguments: {' '.join(overrides)}")
    try:
        run_command(arguments, overrides)
    except (DataError, ConfigError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
