"""What commands write to standard output."""

import json
import sys
from collections.abc import Iterable


def print_lines(lines: Iterable[str]) -> None:
    """Prints lines and sends them on their way."""
    for line in lines:
        print(line)
    sys.stdout.flush()


def print_json(rows: Iterable[object]) -> None:
    """Prints one JSON object a line."""
    escape = sys.stdout.encoding.lower() != "utf-8"
    print_lines(json.dumps(row, ensure_ascii=escape) for row in rows)
