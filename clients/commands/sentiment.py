"""`sentiment`: classify texts, lines of a file, or lines as they arrive."""

import argparse
import dataclasses
import os
import sys
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

from clients import report
from clients.commands.options import (
    OK,
    UsageError,
    add_command,
    add_model,
    client_config,
    client_options,
)
from clients.commands.output import print_json, print_lines
from clients.sentiment import SentimentClient

_READ_BYTES = 1 << 16
_EXAMPLES = """\
  python -m clients sentiment "A joy from start to end."
  python -m clients sentiment --json --file reviews.txt
  tail -f reviews.txt | python -m clients sentiment -
"""


def add_commands(commands: Any) -> None:
    """Describes the command and its options."""
    what = "say whether texts are positive or negative"
    command = add_command(commands, "sentiment", what, _EXAMPLES)
    command.add_argument(
        "texts", nargs="*", metavar="TEXT", help="a text; - for lines on standard input"
    )
    command.add_argument(
        "--file", type=Path, metavar="FILE", help="classify the lines of this file"
    )
    add_model(command, SentimentClient.spec, "texts")
    command.set_defaults(run=run_sentiment)


def run_sentiment(arguments: argparse.Namespace) -> int:
    """Classifies the given texts, lines of a file or lines on standard input."""
    chunks = _text_chunks(arguments)
    with SentimentClient(client_config(arguments), **client_options(arguments)) as client:
        for chunk in chunks:
            results = client.classify(chunk)
            if arguments.json:
                print_json(dataclasses.asdict(result) for result in results)
            else:
                print_lines(report.sentiment_lines(results))
    return OK


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
