"""What commands on texts share: which texts, and in which groups they are sent."""

import argparse
import os
import sys
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import cast

from clients.commands.options import UsageError

_READ_BYTES = 1 << 16


def add_texts(command: argparse.ArgumentParser, verb: str) -> None:
    """Adds texts, `-` and `--file FILE`; `text_batches` reads them.

    Args:
        command: The command.
        verb: What it does with a text.
    """
    command.add_argument(
        "texts", nargs="*", metavar="TEXT", help="a text; - for lines on standard input"
    )
    command.add_argument("--file", type=Path, metavar="FILE", help=f"{verb} the lines of this file")


def text_batches(arguments: argparse.Namespace) -> Iterator[list[str]]:
    """Returns the texts in groups, each to be answered and printed before the next is read.

    A group holds at most `--batch-size` texts.

    Raises:
        UsageError: There are no texts or several kinds of them, or the file cannot be read.
    """
    groups = _groups(arguments)
    size = arguments.batch_size
    return (group[start : start + size] for group in groups for start in range(0, len(group), size))


def line_count(file: Path) -> int | None:
    """Returns the number of lines of a file; None where reading it would use it up."""
    if not file.is_file():
        return None
    with file.open("rb") as lines:
        return sum(1 for _ in lines)


def _groups(arguments: argparse.Namespace) -> Iterator[list[str]]:
    texts: list[str] = arguments.texts
    if (arguments.file is None) == (not texts):
        raise UsageError("expected either texts, - for standard input, or --file FILE")
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
