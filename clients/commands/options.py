"""Options that several commands share, and what they mean."""

import argparse
import os
from pathlib import Path
from typing import Any

from clients.config import DEFAULT_TARGET, ClientConfig, TlsConfig
from clients.typed import TaskSpec

OK, SERVICE_ERROR, INTERRUPTED = 0, 1, 130  # argparse ends with 2 on wrong usage


class UsageError(Exception):
    """The options contradict each other or name something that is not there."""


def add_command(commands: Any, name: str, what: str, examples: str = "") -> argparse.ArgumentParser:
    """Adds a command.

    Args:
        commands: What `add_subparsers` returned.
        name: Its name.
        what: What it does, for the list of commands.
        examples: Lines to show below its options.
    """
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=what,
        description=f"{what[0].upper()}{what[1:]}.",
        epilog=f"examples:\n{examples}" if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--json", action="store_true", help="one JSON object a line")
    return command


def add_connection(command: argparse.ArgumentParser) -> None:
    """Adds the options that say how to reach the server; `client_config` reads them."""
    connection = command.add_argument_group("connection")
    connection.add_argument(
        "--target",
        default=os.environ.get("SERVING_TARGET", DEFAULT_TARGET),
        metavar="HOST:PORT",
        help="address of the server (default: %(default)s)",
    )
    connection.add_argument(
        "--timeout",
        type=float,
        default=ClientConfig.timeout_s,
        metavar="SECONDS",
        help="deadline of one request, retries included (default: %(default)s)",
    )
    connection.add_argument(
        "--tls", action="store_true", help="encrypt; trust the certificates that come with gRPC"
    )
    connection.add_argument("--tls-ca", metavar="FILE", help="encrypt; trust these certificates")
    connection.add_argument("--tls-cert", metavar="FILE", help="encrypt; our own certificate")
    connection.add_argument("--tls-key", metavar="FILE", help="private key of --tls-cert")
    connection.add_argument(
        "--token",
        default=os.environ.get("SERVING_TOKEN"),
        help="bearer token (default: $SERVING_TOKEN, which other users cannot see)",
    )


def add_version(command: argparse.ArgumentParser) -> None:
    """Adds the choice between a version and a label."""
    choice = command.add_mutually_exclusive_group()
    choice.add_argument("--version", type=version, metavar="N", help="exactly this version")
    choice.add_argument("--label", help="the version with this label")


def add_model(command: argparse.ArgumentParser, spec: TaskSpec, items: str) -> None:
    """Adds the options of a command that asks the model of a task; `client_options` reads them.

    Args:
        command: The command.
        spec: The task.
        items: What is sent, in the plural.
    """
    command.add_argument(
        "--model",
        default=spec.contract.task,
        help="name of the served model (default: %(default)s)",
    )
    command.add_argument(
        "--batch-size",
        type=positive_int,
        default=spec.batch_size,
        metavar="N",
        help=f"{items} sent in one request (default: %(default)s)",
    )
    add_version(command)
    add_local(command)
    add_connection(command)


def add_local(command: argparse.ArgumentParser) -> None:
    """Adds `--local FILE`; `client_options` reads it."""
    command.add_argument(
        "--local",
        type=Path,
        metavar="FILE",
        help="ask this .onnx or .tflite file of a version folder instead of a server "
        "(needs onnxruntime or ai-edge-litert)",
    )


def client_config(arguments: argparse.Namespace) -> ClientConfig:
    """Returns the connection that the options describe.

    Raises:
        UsageError: An option is out of range.
    """
    files = (arguments.tls_ca, arguments.tls_cert, arguments.tls_key)
    try:
        tls = TlsConfig(*files) if arguments.tls or any(files) else None
        return ClientConfig(
            target=arguments.target,
            timeout_s=arguments.timeout,
            tls=tls,
            token=arguments.token or None,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def client_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the options of `add_model` as arguments of a client, all but its target.

    Raises:
        ServiceError: The file of `--local` can not be used.
    """
    names = ("model", "version", "label", "batch_size")
    options = {name: getattr(arguments, name) for name in names}
    if arguments.local is not None:
        from clients.local import LocalTransport  # servers' callers need no pipelines

        options["transport"] = LocalTransport(arguments.local)
    return options


def positive_int(text: str) -> int:
    """Reads a whole number from 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {number}")
    return number


def version(text: str) -> int:
    """Reads a version, a whole number from 0."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"expected a version of 0 or more, got {number}")
    return number
