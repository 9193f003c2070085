"""What commands write to standard output, and how far they are to standard error."""

import json
import sys
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self, TextIO

_EMPTY_LINE = "\r\033[K"


def print_lines(lines: Iterable[str]) -> None:
    """Prints lines and sends them on their way."""
    for line in lines:
        print(line)
    sys.stdout.flush()


def print_json(rows: Iterable[object]) -> None:
    """Prints one JSON object a line."""
    print_lines(json_lines(rows))


def json_lines(rows: Iterable[object]) -> list[str]:
    """Returns one JSON object a line, in letters that standard output has."""
    escape = sys.stdout.encoding.lower() != "utf-8"
    return [json.dumps(row, ensure_ascii=escape) for row in rows]


class Progress:
    """A line on a terminal that says how much is done; a context manager.

    Args:
        terminal: Where to write; None to write nothing.
        what: What is counted, in the plural.
        total: How many there are; None if that is not known.
    """

    def __init__(self, terminal: TextIO | None, what: str, total: int | None = None) -> None:
        self._terminal = terminal
        self._what = what
        self._of = "" if total is None else f" of {total:,}"
        self._done = 0
        self._started = time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._done:
            self._write("\n")

    def clear(self) -> None:
        """Makes room for other lines on the same terminal."""
        if self._done:
            self._write(_EMPTY_LINE)

    def advance(self, count: int) -> None:
        """Adds to what is done, and says so."""
        self._done += count
        rate = self._done / (time.perf_counter() - self._started)
        self._write(f"{_EMPTY_LINE}{self._done:,}{self._of} {self._what}, {rate:,.1f} per second")

    def _write(self, text: str) -> None:
        if self._terminal is not None:
            self._terminal.write(text)
            self._terminal.flush()
