"""The command line of the clients: `python -m clients COMMAND ...`."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import Any, cast

from clients import report
from clients.config import DEFAULT_TARGET, ClientConfig, TlsConfig
from clients.predict import PredictClient
from clients.sentiment import DEFAULT_BATCH_SIZE, DEFAULT_MODEL, SentimentClient
from protocol.errors import ServiceError

OK, SERVICE_ERROR, INTERRUPTED = 0, 1, 130  # argparse ends with 2 on wrong usage
_READ_BYTES = 1 << 16

_EPILOG = """\
environment: SERVING_TARGET is the default of --target, SERVING_TOKEN that of --token.
exit status: 0 success, 1 the service refused or failed, 2 wrong usage.
"""

_SENTIMENT_EPILOG = """\
examples:
  python -m clients sentiment "A joy from start to end."
  python -m clients sentiment --json --file reviews.txt
  tail -f reviews.txt | python -m clients sentiment -
"""


class UsageError(Exception):
    """The options contradict each other or name something that is not there."""


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
        status: int = arguments.run(arguments, _config(arguments))
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

    sentiment = _command(commands, "sentiment", "say whether texts are positive or negative")
    sentiment.epilog = _SENTIMENT_EPILOG
    sentiment.formatter_class = argparse.RawDescriptionHelpFormatter
    sentiment.add_argument(
        "texts", nargs="*", metavar="TEXT", help="a text; - for lines on standard input"
    )
    sentiment.add_argument(
        "--file", type=Path, metavar="FILE", help="classify the lines of this file"
    )
    sentiment.add_argument(
        "--model", default=DEFAULT_MODEL, help="name of the served model (default: %(default)s)"
    )
    sentiment.add_argument(
        "--batch-size",
        type=_positive_int,
        default=DEFAULT_BATCH_SIZE,
        metavar="N",
        help="texts sent in one request (default: %(default)s)",
    )
    _add_version_options(sentiment)
    sentiment.set_defaults(run=run_sentiment)

    status = _command(commands, "status", "list the versions of a model and their states")
    status.add_argument("model", metavar="MODEL", help="name of the served model")
    status.add_argument("--version", type=_version, metavar="N", help="only this version")
    status.set_defaults(run=run_status)

    metadata = _command(commands, "metadata", "list the signatures of a model")
    metadata.add_argument("model", metavar="MODEL", help="name of the served model")
    _add_version_options(metadata)
    metadata.set_defaults(run=run_metadata)

    health = _command(commands, "health", "ask whether the server is serving")
    health.add_argument(
        "service", nargs="?", default="", metavar="SERVICE", help="default: the whole server"
    )
    health.set_defaults(run=run_health)
    return parser


def run_sentiment(arguments: argparse.Namespace, config: ClientConfig) -> int:
    """Classifies the given texts, lines of a file or lines on standard input."""
    chunks = _text_chunks(arguments)
    client = SentimentClient(
        config,
        model=arguments.model,
        version=arguments.version,
        label=arguments.label,
        batch_size=arguments.batch_size,
    )
    with client:
        for chunk in chunks:
            results = client.classify(chunk)
            if arguments.json:
                _print_json(dataclasses.asdict(result) for result in results)
            else:
                _print_lines(report.sentiment_lines(results))
    return OK


def run_status(arguments: argparse.Namespace, config: ClientConfig) -> int:
    """Prints the states of a model's versions."""
    with PredictClient(config) as client:
        versions = client.status(arguments.model, version=arguments.version)
    if arguments.json:
        _print_json({"model": arguments.model, **dataclasses.asdict(found)} for found in versions)
    else:
        _print_lines(report.status_lines(versions))
    return OK


def run_metadata(arguments: argparse.Namespace, config: ClientConfig) -> int:
    """Prints the signatures of a model."""
    with PredictClient(config) as client:
        metadata = client.metadata(
            arguments.model, version=arguments.version, label=arguments.label
        )
    if arguments.json:
        _print_json([dataclasses.asdict(metadata)])
    else:
        _print_lines(report.metadata_lines(metadata))
    return OK


def run_health(arguments: argparse.Namespace, config: ClientConfig) -> int:
    """Prints the health of a service; anything but SERVING is a service error."""
    with PredictClient(config) as client:
        health = client.health(arguments.service)
    if arguments.json:
        _print_json([{"service": arguments.service, "health": health}])
    else:
        _print_lines([health])
    return OK if health == "SERVING" else SERVICE_ERROR


def _command(commands: Any, name: str, what: str) -> argparse.ArgumentParser:
    """Adds a command with the options that all commands share."""
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=what, description=f"{what.capitalize()}."
    )
    command.add_argument("--json", action="store_true", help="one JSON object a line")
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
    return command


def _add_version_options(command: argparse.ArgumentParser) -> None:
    choice = command.add_mutually_exclusive_group()
    choice.add_argument("--version", type=_version, metavar="N", help="exactly this version")
    choice.add_argument("--label", help="the version with this label")


def _config(arguments: argparse.Namespace) -> ClientConfig:
    """Returns the connection that the options describe."""
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


def _text_chunks(arguments: argparse.Namespace) -> Iterator[list[str]]:
    """Returns the texts in groups, each to be classified and printed before the next is read."""
    texts: list[str] = arguments.texts
    if (arguments.file is None) == (not texts):
        raise UsageError("sentiment: expected either texts, - for standard input, or --file FILE")
    if texts == ["-"]:
        return _arriving_lines(cast(BufferedReader, sys.stdin.buffer))
    if arguments.file is None:
        # Bytes that are not UTF-8 come as surrogates, which cannot be sent.
        return iter([[os.fsencode(text).decode(errors="replace") for text in texts]])
    try:
        file: BufferedReader = arguments.file.open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {arguments.file}: {error.strerror}") from error
    return _arriving_lines(file)


def _arriving_lines(stream: BufferedReader) -> Iterator[list[str]]:
    """Yields the lines of a stream in groups of what has arrived, without waiting for more.

    A person at a terminal is answered line by line; a file comes in large groups.
    """
    rest = b""
    while block := stream.read1(_READ_BYTES):
        *lines, rest = (rest + block).split(b"\n")
        if lines:
            yield [_line(line) for line in lines]
    if rest:
        yield [_line(rest)]


def _line(line: bytes) -> str:
    return line.removesuffix(b"\r").decode(errors="replace")


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)
    sys.stdout.flush()


def _print_json(rows: Iterable[object]) -> None:
    escape = sys.stdout.encoding.lower() != "utf-8"
    _print_lines(json.dumps(row, ensure_ascii=escape) for row in rows)


def _positive_int(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {number}")
    return number


def _version(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"expected a version of 0 or more, got {number}")
    return number
