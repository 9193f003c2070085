"""Measures our server by both gRPC faces beside the raw engines and other model servers.

    python -m tests.bench.faces [--models light face] [--rivals triton mlserver] [--out docs]

Model after model, all servers are started and several rounds go through all cases in turn, so that
whatever else the machine does meets all of them alike; a server whose turn it is not is paused.
Server and client share the cores: trust processor time and ratios. Needs h2load (nghttp2-client);
`make bench-rivals` brings rivals.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc

from clients.demo.repository import published_models
from clients.demo.server_process import ServerStartError
from tests.bench import contenders, small_models
from tests.bench.contenders import Contender, StartError
from tests.bench.figures import Findings, around_figures, text_lines, write_markdown
from tests.bench.load import LoadError
from tests.bench.plot import draw
from tests.bench.rivals.known import RIVALS, chosen
from tests.bench.rivals.rival import Rival
from tests.bench.subjects import CONCURRENCIES, Subject, published_subjects, small_subjects

DOCUMENT, PLOT = "speed.md", "speed.svg"


@dataclass(frozen=True)
class Plan:
    """How long to measure what.

    Attributes:
        rounds: through all cases.
        seconds: for each case and round.
        at_once: numbers of requests; others are left out.
    """

    rounds: int
    seconds: float
    at_once: tuple[int, ...]

    def summary(self) -> str:
        """Returns what a reader of the figures must know."""
        return (
            f"Medians of {self.rounds} rounds of {self.seconds:g} s a case, {os.cpu_count()} cores "
            "shared by server, client and whatever else ran."
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark, prints its tables, and writes them if asked to."""
    arguments = build_parser().parse_args(argv)
    if shutil.which("h2load") is None:
        print("error: h2load is missing; Debian has it in nghttp2-client", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the servers end with us
    rivals = chosen(arguments.rivals)
    plan = Plan(arguments.rounds, arguments.seconds, tuple(arguments.at_once))
    if arguments.out:
        around_figures(arguments.out / DOCUMENT)  # fails now rather than after all the work
    all_findings = []
    with tempfile.TemporaryDirectory() as folder:
        for subject in _subjects(arguments.models, arguments.repository, Path(folder)):
            all_findings.append(measure(subject, rivals, plan))
            print("\n".join(text_lines(all_findings[-1])), flush=True)
            if arguments.out:  # after each model, so that nothing is lost if it ends early
                draw(all_findings, arguments.out / PLOT)
                write_markdown(arguments.out / DOCUMENT, plan.summary(), all_findings)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Describes the options."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.faces", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=2.0, help="for each case and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--models", nargs="*", metavar="MODEL",
        help=f"{', '.join(small_models.WRITERS)}, or published ones (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--rivals", nargs="*", default=list(RIVALS), metavar="RIVAL",
        help=f"of {', '.join(RIVALS)} (default: all; those not installed are named in the table)",
    )  # fmt: skip
    parser.add_argument(
        "--at-once", type=int, nargs="*", metavar="N", default=list(CONCURRENCIES),
        help="how many requests, of 1, 8, 32 and 64 (default: all)",
    )  # fmt: skip
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), metavar="DIR")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"writes {DOCUMENT} and {PLOT}")
    return parser


def measure(subject: Subject, rivals: Sequence[Rival], plan: Plan) -> Findings:
    """Measures all contenders on one model, round after round."""
    findings = Findings(subject.title)
    with ExitStack() as stack:
        running = _start_all(subject, rivals, stack, findings)
        for number in range(1, plan.rounds + 1):
            for size, name in _cases(subject, running, plan):
                if name not in findings.failures:
                    _show_progress(f"{subject.name}: round {number}, {size} at once, {name}")
                    _measure_one(findings, name, running[name], size, plan.seconds)
    _show_progress("")
    return findings


def _cases(
    subject: Subject, running: Mapping[str, Contender], plan: Plan
) -> Iterator[tuple[int, str]]:
    """Yields requests at once (raw: rows in a batch) and contender, the latter in turn."""
    for size in subject.concurrencies:
        for name, contender in running.items():
            if size in contender.sizes(subject) and size in plan.at_once:
                yield size, name


def _measure_one(
    findings: Findings, name: str, contender: Contender, size: int, seconds: float
) -> None:
    try:
        figures = contender.measure(size, seconds)
    except LoadError as error:
        findings.failures[name] = f"at {size} at once: {error}"
    else:
        findings.rounds[name][size].append(figures)


def _start_all(
    subject: Subject, rivals: Sequence[Rival], stack: ExitStack, findings: Findings
) -> dict[str, Contender]:
    """Starts the raw engines and our server, then the rivals that can be started."""
    running: dict[str, Contender] = {}
    for name, engine in contenders.RAW_ENGINES.items():
        running[name] = stack.enter_context(contenders.raw_engine(engine, subject))
    for name, face in contenders.FACES.items():
        running[name] = stack.enter_context(contenders.our_server(face, subject))
    for rival in rivals:
        _show_progress(f"{subject.name}: starting {rival.name}")
        try:
            running[rival.title] = stack.enter_context(contenders.rival_server(rival, subject))
        except (StartError, ServerStartError, OSError, grpc.RpcError) as error:
            findings.failures[rival.title] = str(error)
    return running


def _subjects(names: Sequence[str] | None, repository: Path, folder: Path) -> Iterator[Subject]:
    if names is None:
        names = [*small_models.WRITERS, *(model.name for model in published_models(repository))]
    yield from small_subjects([name for name in names if name in small_models.WRITERS], folder)
    yield from published_subjects(
        [name for name in names if name not in small_models.WRITERS], repository
    )


def _show_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
