"""Exports models and manages the model repository: `python -m export`."""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from export import FORMATS, audit
from export.formats import ALL_FORMATS, EDGE_FORMATS, parse_formats, read_refusals
from export.gate import DEFAULT_MARGIN, GateError, check_gate
from export.int8 import quantize_version
from export.reference import reference_of
from export.release import Engine, Releases
from export.repository import ModelRepository, RepositoryError
from export.served_models import SERVED
from export.tuning import tune_version
from models.common.backends import newest_version
from models.common.logs import configure_logging
from models.common.run_folder import RunFolder
from protocol.errors import ServiceError
from protocol.version_folder import Manifest, ServingTuning, verify_files

DESCRIPTION = """\
Turn a trained model into a version folder, and manage what is served.

  python -m export sentiment --run runs/sentiment --to saved_model onnx
  python -m export detection --to onnx,onnx-fp16,onnx-int8,litert,litert-int8     for the edge
  python -m export publish sentiment                  the shipped weights, as the newest version
  python -m export publish sentiment --run runs/mine  your own run
  python -m export canary sentiment                   serve the newest beside the stable version
  python -m export promote sentiment                  make the canary the stable version
  python -m export rollback sentiment                 take the canary back, or return to the
                                                      version before
  python -m export prune sentiment --keep 2           delete older versions
  python -m export quantize build/translation --out build/int8    ONNX with int8 weights
  python -m export table runs/*/export                size, speed and metric of every format
  python -m export tune sentiment                     measure how a server best runs the newest
  python -m export reference sentiment --examples reviews.tsv     what its traffic looks like
  python -m export list                               what is published

Each exported file is run and compared with Keras before it counts. Publishing renames whole
folders, so a server never sees half a version. With --config, canary, promote and rollback move
labels on running servers; without it, rollback retires the newest folder. Each leaves a line in
the repository's audit.log.
"""


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m export",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for model in SERVED:
        exporter = commands.add_parser(model, help=f"export {model} to a version folder")
        _add_source(exporter)
        exporter.add_argument(
            "--out", type=Path, help="version folder to write (default: RUN/export or build/MODEL)"
        )
    publisher = commands.add_parser("publish", help="export, if need be, and publish a version")
    publisher.add_argument("models", nargs="+", choices=tuple(SERVED), metavar="MODEL")
    _add_source(publisher)
    publisher.add_argument("--folder", type=Path, help="publish this exported version folder")
    publisher.add_argument(
        "--if-missing", action="store_true", help="do nothing where a version is published"
    )
    publisher.add_argument(
        "--margin",
        type=float,
        default=DEFAULT_MARGIN,
        help="how much worse than the newest version it may be, of 1 (default %(default)s)",
    )
    publisher.add_argument("--ungated", action="store_true", help="publish it even if it is worse")
    publisher.add_argument(
        "--tune", action="store_true", help="measure it first, as `tune` does: some seconds"
    )
    tabler = commands.add_parser("table", help="measure every format of version folders")
    tabler.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="version folder")
    tabler.add_argument(
        "--out", type=Path, default=Path("build/table"), help="folder for the table and its plot"
    )
    quantizer = commands.add_parser("quantize", help="round the ONNX weights of a version to int8")
    quantizer.add_argument("folder", type=Path, help="version folder")
    quantizer.add_argument("--out", type=Path, required=True, help="version folder to write")
    canary = commands.add_parser("canary", help="serve a version beside the stable one")
    canary.add_argument("--version", type=int, help="which one (default: the newest)")
    promote = commands.add_parser("promote", help="make the canary the stable version")
    rollback = commands.add_parser("rollback", help="take the canary or the newest version back")
    for command in (canary, promote, rollback):
        command.add_argument("model")
        command.add_argument(
            "--config",
            type=Path,
            required=command is not rollback,
            help="model config file of the servers",
        )
        command.add_argument(
            "--targets", nargs="+", default=["localhost:8500"], help="gRPC addresses of the servers"
        )
    prune = commands.add_parser("prune", help="delete old and retired versions")
    prune.add_argument("model")
    prune.add_argument("--keep", type=int, default=2, help="newest versions to keep (default 2)")
    tuner = commands.add_parser(
        "tune", help="measure how a server best runs the newest version, for its manifest"
    )
    tuner.add_argument("models", nargs="*", metavar="MODEL", help="default: all published ones")
    referrer = commands.add_parser(
        "reference", help="measure on examples what drift of the newest version is compared with"
    )
    referrer.add_argument("model")
    referrer.add_argument(
        "--examples", type=Path, required=True, help="folder of images, or file of texts"
    )
    referrer.add_argument("--run", type=Path, help="keep it in this run, too, for its exports")
    listing = commands.add_parser("list", help="list models and versions")
    for command in (publisher, canary, promote, rollback, prune, tuner, referrer, listing):
        command.add_argument("--repository", type=Path, default=Path("model_repository"))
    return parser


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--run", type=Path, help="run folder (default: shipped weights; TINY where none ship)"
    )
    parser.add_argument(
        "--to",
        nargs="+",
        type=parse_formats,
        default=[list(FORMATS)],
        metavar="FORMAT",
        help=f"of {', '.join(ALL_FORMATS)}, with blanks or commas between them "
        f"(default: {' '.join(FORMATS)})",
    )
    parser.add_argument(
        "--data",
        type=Path,
        help="data folder whose test or dev part the files are compared on (default: built-in)",
    )


def export_command(name: str, arguments: argparse.Namespace, out: Path) -> None:
    """Exports a run, the shipped weights, or a TINY model trained on the spot, to `out`."""
    print("loading TensorFlow and Keras ...", file=sys.stderr)
    from export import version
    from export.edge import known_data

    served = SERVED[name]
    exporter = version.exporter_of(served.task)
    with tempfile.TemporaryDirectory() as scratch:
        model = exporter.model_to_export(arguments.run or served.shipped_run(), Path(scratch))
        if arguments.data:
            examples = exporter.load_examples(arguments.data, model)
        else:
            examples = exporter.sample_examples()
        formats = [name for names in arguments.to for name in names]
        data = arguments.data
        if data is None and set(formats) & set(EDGE_FORMATS):
            data = known_data(model)
        version.export_version(served.task, model, out, formats, examples, name, data)
    for refused, reason in read_refusals(out).items():
        print(f"{name}: {refused} is not there: {reason}", file=sys.stderr)


def publish_command(arguments: argparse.Namespace) -> None:
    """Publishes a folder or a run of one model, or the shipped weights of several.

    Raises:
        ValueError: if a folder or run is named for several models.
    """
    if len(arguments.models) > 1 and (arguments.folder or arguments.run or arguments.data):
        raise ValueError("--folder, --run and --data belong to one model; name just that one")
    for model in arguments.models:
        publish(model, arguments)


def publish(model: str, arguments: argparse.Namespace) -> None:
    """Publishes the next version of one model."""
    repository = ModelRepository(arguments.repository)
    if arguments.if_missing and repository.versions(model):
        print(f"{model}: version {repository.versions(model)[-1]} is published")
        return
    with repository.staging(model) as staging:
        version = staging / "version"
        if arguments.folder:
            verify_files(arguments.folder)
            shutil.copytree(arguments.folder, version)
        else:
            export_command(model, arguments, version)
        compared = pass_gate(repository, model, version, arguments)
        if arguments.tune:
            print(f"{model}: {in_words(tune_version(version))}")
        number = repository.publish(model, version)
    audit.record(repository.path, "publish", model, version=number, compared=compared)
    print(f"published {repository.version_folder(model, number)}")


def pass_gate(
    repository: ModelRepository, model: str, version: Path, arguments: argparse.Namespace
) -> str:
    """Compares a version with the newest that is published; returns what was compared.

    Raises:
        GateError: it is worse, and that does not go.
    """
    served = repository.versions(model)
    if not served:
        return "not compared: the first version"
    former = Manifest.read(repository.version_folder(model, served[-1]))
    try:
        compared = check_gate(Manifest.read(version), former, arguments.margin)
    except GateError as error:
        if not arguments.ungated:
            raise GateError(f"{model}: {error}; --ungated publishes it all the same") from error
        compared = f"ungated: {error}"
    print(f"{model}: {compared}")
    return compared


def release_command(arguments: argparse.Namespace) -> None:
    """Moves the labels of a model on running servers."""
    repository = ModelRepository(arguments.repository)
    engines = [Engine(target) for target in arguments.targets]
    releases = Releases(arguments.config, engines, repository)
    model, action = arguments.model, arguments.command
    if action == "canary":
        former, version = releases.canary(model, arguments.version)
        print(f"{model}: version {version} is the canary, {former} stays stable")
    elif action == "promote":
        former, version = releases.promote(model)
        print(f"{model}: version {version} is stable, {former} is unloaded")
    else:
        former, version = releases.rollback(model)
        print(f"{model}: version {former} is taken back, {version} is stable")
    targets = list(arguments.targets)
    audit.record(repository.path, action, model, former=former, version=version, targets=targets)


def retire_command(repository: ModelRepository, model: str) -> None:
    """Retires the newest version's folder, for servers that follow the newest."""
    retired, newest = repository.rollback(model)
    audit.record(repository.path, "rollback", model, former=retired, version=newest)
    print(f"{model}: version {retired} retired, {newest} is the newest")


def tune_command(arguments: argparse.Namespace) -> None:
    """Measures the newest version of each model named, or of all.

    Raises:
        RepositoryError: if none is named, and none is published.
    """
    models = arguments.models or ModelRepository(arguments.repository).models()
    if not models:
        raise RepositoryError(f"{arguments.repository} holds no model to tune")
    for model in models:
        folder = newest_version(arguments.repository, model)
        print(f"{folder}: {in_words(tune_version(folder))}")


def reference_command(arguments: argparse.Namespace) -> None:
    """Measures the reference of the newest version of a model, for its manifest and its run."""
    folder = newest_version(arguments.repository, arguments.model)
    reference = reference_of(folder, arguments.examples)
    replace(Manifest.read(folder), reference=reference).rewrite(folder)
    if arguments.run:
        run = RunFolder(arguments.run)
        run.write_details({**run.read_details(), "reference": reference.to_json()})
    names = ", ".join(reference.features)
    print(f"{folder}: {names} of {reference.examples} examples")


def table_command(arguments: argparse.Namespace) -> None:
    """Measures every format of version folders; prints the table, and writes it to files."""
    from export.table import markdown, measure_folders, write_table

    rows = measure_folders(arguments.folders)
    write_table(rows, arguments.out)
    print(markdown(rows), end="")


def in_words(tuning: ServingTuning) -> str:
    """Says how to run a version."""
    places = {
        True: "in the event loop",
        False: "in worker threads",
        None: "short requests in the event loop",
    }
    threads, rows = tuning.intra_op_threads, tuning.max_batch_size
    return (
        f"{threads} thread{'s' if threads > 1 else ''}, "
        f"batches of {rows} row{'s' if rows > 1 else ''}, {places[tuning.runs_inline]}"
    )


def list_command(repository: ModelRepository) -> None:
    """Prints each model with its versions."""
    if not repository.models():
        print(f"{repository.path} holds no model; publish one: python -m export publish sentiment")
    for model in repository.models():
        retired = repository.retired(model)
        versions = ", ".join(map(str, repository.versions(model)))
        note = f"; rolled back: {', '.join(map(str, retired))}" if retired else ""
        print(f"{model}: {versions}{note}")


def run_command(arguments: argparse.Namespace) -> None:
    """Runs the parsed command."""
    if arguments.command in SERVED:
        default = arguments.run / "export" if arguments.run else Path("build") / arguments.command
        out = arguments.out or default
        export_command(arguments.command, arguments, out)
        print(f"exported {out}")
        return
    if arguments.command == "quantize":
        quantize_version(arguments.folder, arguments.out)
        print(f"quantized {arguments.out}")
        return
    if arguments.command == "table":
        table_command(arguments)
        return
    repository = ModelRepository(arguments.repository)
    if arguments.command == "publish":
        publish_command(arguments)
    elif arguments.command in ("canary", "promote", "rollback"):
        if arguments.config is None:
            retire_command(repository, arguments.model)
        else:
            release_command(arguments)
    elif arguments.command == "prune":
        deleted = repository.prune(arguments.model, arguments.keep)
        print(f"{arguments.model}: deleted {', '.join(map(str, deleted)) or 'nothing'}")
    elif arguments.command == "tune":
        tune_command(arguments)
    elif arguments.command == "reference":
        reference_command(arguments)
    else:
        list_command(repository)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    configure_logging()
    arguments = build_parser().parse_args(argv)
    try:
        run_command(arguments)
    except (RepositoryError, ServiceError, OSError, ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
