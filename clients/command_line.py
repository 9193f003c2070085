"""The command line of the clients: `python -m clients COMMAND ...`."""

import argparse
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from clients.commands import detection, face, segmentation, sentiment, server, translation
from clients.commands.options import INTERRUPTED, OK, SERVICE_ERROR, UsageError
from protocol.errors import ServiceError

_EPILOG = """\
environment: SERVING_TARGET is the default of --target, SERVING_TOKEN that of --token.
exit status: 0 success, 1 the service refused or failed, 2 wrong usage.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status.

    Args:
        argv: Arguments without the program's name; None takes the process's.
    """
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if isinstance(sys.stdout, TextIOWrapper):  # a terminal may lack some letters of a text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status: int = arguments.run(arguments)
    except UsageError as error:
        parser.error(str(error))
    except ServiceError as error:
        print(f"error: {error} ({error.status.name})", file=sys.stderr)
        return SERVICE_ERROR
    except BrokenPipeError:
        # Who read our output has seen enough; without this the interpreter complains at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def build_parser() -> argparse.ArgumentParser:
    """Describes the commands and their options."""
    parser = argparse.ArgumentParser(
        prog="python -m clients",
        description="Ask a running model server: this one, or TensorFlow Serving.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (sentiment, translation, detection, segmentation, face, server):
        module.add_commands(commands)
    return parser
