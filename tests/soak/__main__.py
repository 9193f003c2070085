"""Minutes of everything at once that happens to a server in months; see docs/serving.md.

    python -m tests.soak --seconds 60

Prints what was done and seen as a table, and exits with 1 if a promise was broken. Each part runs
against a server process of its own.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from clients.report import table
from tests.soak.faults import faults
from tests.soak.fuzz import fuzz
from tests.soak.overload import overload
from tests.soak.report import Finding
from tests.soak.swaps import swaps


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the parts asked for and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of swaps under load")
    parser.add_argument("--requests", type=int, default=100_000, help="broken requests to send")
    parser.add_argument("--face", choices=("nghttp2", "grpcio"), default="nghttp2")
    parser.add_argument("--parts", nargs="*", default=["swaps", "overload", "fuzz", "faults"])
    parser.add_argument("--json", type=Path, help="where the findings go as JSON")
    arguments = parser.parse_args(argv)
    findings = asyncio.run(_run(arguments))
    rows = [(f.part, f.what, f.seen, f.promised, "yes" if f.kept else "NO") for f in findings]
    print("\n".join(table([("PART", "WHAT", "SEEN", "PROMISED", "KEPT"), *rows])))
    if arguments.json:
        arguments.json.write_text(json.dumps([f._asdict() for f in findings], indent=1) + "\n")
    return 0 if all(finding.kept for finding in findings) else 1


async def _run(arguments: argparse.Namespace) -> list[Finding]:
    parts = {
        "swaps": lambda base: swaps(base, arguments.face, arguments.seconds),
        "overload": lambda base: overload(base, arguments.face),
        "fuzz": lambda base: fuzz(base, arguments.face, arguments.requests),
        "faults": lambda base: faults(base, arguments.face),
    }
    findings: list[Finding] = []
    for name in arguments.parts:
        print(f"{name} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as base:
            findings += await parts[name](Path(base))
    return findings


if __name__ == "__main__":
    sys.exit(main())
