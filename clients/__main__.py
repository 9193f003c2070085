"""Runs the command line: `python -m clients --help`."""

import sys

from clients.command_line import main

if __name__ == "__main__":
    sys.exit(main())
