"""Installs rivals, each into its own environment: `python -m tests.bench.rivals [NAME ...]`."""

import sys
from collections.abc import Sequence

from tests.bench.rivals.known import RIVALS, chosen


def main(names: Sequence[str]) -> int:
    """Installs the named rivals, or all; tells of those that fail, and goes on."""
    failed = 0
    for rival in chosen(names or list(RIVALS)):
        if rival.is_installed:
            print(f"{rival.name}: {rival.requirement} is there")
            continue
        print(f"{rival.name}: installing {rival.requirement} ...", flush=True)
        try:
            rival.install()
        except RuntimeError as error:
            print(f"{rival.name}: not installed: {error}", file=sys.stderr)
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
