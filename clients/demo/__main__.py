"""Serves everything that is published, sends real requests, and stops: `python -m clients.demo`."""

import argparse
import signal
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from clients.commands.images import PictureFolder
from clients.commands.options import UsageError
from clients.demo.repository import PublishedModel, published_models
from clients.demo.server_process import ServerProcess, ServerStartError
from clients.demo.tasks import DEMOS
from protocol.errors import ServiceError

_METRICS_TIMEOUT_S = 5.0
_KEY_METRICS = (
    "serving_requests_total",
    "serving_batch_rows_sum",
    "serving_batch_rows_count",
    "serving_model_state",
    ":tensorflow:serving:request_count",
)
_LINE_START = "\r\033[K" if sys.stdout.isatty() else ""
_OK, _FAILED, _INTERRUPTED = 0, 1, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo and returns its exit status.

    Args:
        argv: Arguments without the program's name; None takes the process's.
    """
    arguments = _build_parser().parse_args(argv)
    models = published_models(arguments.repository)
    if not models:
        print(
            f"error: no models in {arguments.repository}; "
            "expected folders <name>/<version>/, as `python -m export publish` makes them",
            file=sys.stderr,
        )
        return _FAILED
    signal.signal(signal.SIGTERM, _exit_on_signal)
    try:
        return _run(arguments, models)
    except (ServerStartError, ServiceError) as error:
        print(f"error: {error}", file=sys.stderr)
        return _FAILED
    except KeyboardInterrupt:
        print("\ninterrupted; the server is stopped")
        return _INTERRUPTED


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m clients.demo",
        description="Serve every published model on free ports, send real requests through the "
        "clients, show answers, latencies and metrics, and stop the server.",
    )
    parser.add_argument(
        "--repository",
        type=Path,
        default=Path("model_repository"),
        metavar="DIR",
        help="the published models (default: %(default)s)",
    )
    parser.add_argument(
        "--start-timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long the server may take to load the models (default: %(default)s)",
    )
    parser.add_argument(
        "--pictures",
        type=Path,
        default=Path("build/demo"),
        metavar="DIR",
        help="where the pictures of the answers go (default: %(default)s)",
    )
    parser.add_argument("--keep", action="store_true", help="leave the server running until Ctrl-C")
    return parser


def _run(arguments: argparse.Namespace, models: Sequence[PublishedModel]) -> int:
    with ServerProcess(arguments.repository, [model.name for model in models]) as server:
        print(f"Server: gRPC {server.target}, metrics {server.metrics_url}")
        took_s = server.wait_until_serving(arguments.start_timeout, _show_waiting)
        print(f"{_LINE_START}{len(models)} model(s) loaded and warm after {took_s:.1f} s")
        failed = [
            model.name
            for model in models
            if not _show_model(server.target, model, arguments.pictures / model.name)
        ]
        _show_metrics(server)
        if arguments.keep:
            _keep(server)
        code = server.stop()
    print(f"\nThe server has stopped with exit code {code}.")
    if failed:
        print(f"error: these models failed: {', '.join(failed)}", file=sys.stderr)
    return _OK if code == 0 and not failed else _FAILED


def _show_model(target: str, model: PublishedModel, pictures: Path) -> bool:
    """Shows the demo of a model; returns whether it went well."""
    print(f"\n{model.name}, version {model.version}")
    demo = DEMOS.get(model.task)
    if demo is None:
        print(f"  no demo yet for task {model.task!r}; there are demos for: {', '.join(DEMOS)}")
        return True
    try:
        _print_indented(demo(target, model, _picture_folder(pictures)))
    except (ServiceError, UsageError) as error:
        print(f"  failed: {error}", flush=True)
        return False
    return True


def _picture_folder(folder: Path) -> PictureFolder:
    """Returns where pictures go; nowhere, and why, where they cannot be drawn."""
    try:
        return PictureFolder(folder)
    except UsageError as error:
        print(f"  no pictures: {error}")
        return PictureFolder(None)


def _show_metrics(server: ServerProcess) -> None:
    print(f"\nMetrics: {server.metrics_url}")
    try:
        with urllib.request.urlopen(server.metrics_url, timeout=_METRICS_TIMEOUT_S) as page:
            lines = page.read().decode().splitlines()
    except (urllib.error.URLError, TimeoutError) as error:
        print(f"  cannot be read: {error}")
        return
    _print_indented(line for line in lines if line.startswith(_KEY_METRICS))


def _keep(server: ServerProcess) -> None:
    try:
        print("\nThe server stays until Ctrl-C. In another terminal:")
        print(f'  python -m clients sentiment --target {server.target} "your text"', flush=True)
        threading.Event().wait()
    except KeyboardInterrupt:
        print()


def _show_waiting(waited_s: float) -> None:
    if _LINE_START:
        print(f"{_LINE_START}loading the models ... {waited_s:.0f} s", end="", flush=True)


def _print_indented(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"  {line}".rstrip(), flush=True)


def _exit_on_signal(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
