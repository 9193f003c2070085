"""Runs the benchmark of a published model: `python -m tests.bench sentiment [options]`."""

import sys

from tests.bench.serving import main

if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments and not arguments[0].startswith("-"):
        arguments.insert(0, "--model")
    sys.exit(main(arguments))
