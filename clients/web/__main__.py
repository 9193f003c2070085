"""Serves the web page: `python -m clients.web --target HOST:PORT --port 7860`."""

import argparse
import sys
from collections.abc import Sequence

from clients.commands.options import (
    INTERRUPTED,
    OK,
    SERVICE_ERROR,
    UsageError,
    add_connection,
    client_config,
)
from clients.drawing import require_pillow
from clients.web.model_list import DEFAULT_MODELS, task_of

_EXAMPLES = """\
examples:
  python -m clients.web --target localhost:8500
  python -m clients.web --host 127.0.0.1 --models sentiment translation translation_dates
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Serves the page until it is interrupted, and returns the exit status.

    Args:
        argv: Arguments without the program's name; None takes the process's.
    """
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        config = client_config(arguments)
    except UsageError as error:
        parser.error(str(error))
    try:
        require_pillow()
        from clients.web.site import serve
    except ImportError as error:
        print(f"error: {error}; the page needs: pip install '.[web]'", file=sys.stderr)
        return SERVICE_ERROR
    print(f"http://{arguments.host}:{arguments.port} asks {config.target}", flush=True)
    try:
        serve(config, arguments.models, arguments.host, arguments.port)
    except KeyboardInterrupt:
        return INTERRUPTED
    return OK


def build_parser() -> argparse.ArgumentParser:
    """Describes the options."""
    parser = argparse.ArgumentParser(
        prog="python -m clients.web",
        description="A web page that asks a running model server: this one, or TensorFlow Serving.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--host",
        default="0.0.0.0",
        help="address to listen on; everybody who reaches it may ask (default: %(default)s)",
    )
    parser.add_argument("--port", type=int, default=7860, help="port (default: %(default)s)")
    parser.add_argument(
        "--models",
        nargs="+",
        type=_model,
        default=DEFAULT_MODELS,
        metavar="NAME",
        help="models to offer: a task, or a task, an underscore and more "
        f"(default: {' '.join(DEFAULT_MODELS)})",
    )
    add_connection(parser)
    return parser


def _model(name: str) -> str:
    try:
        task_of(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return name


if __name__ == "__main__":
    sys.exit(main())
