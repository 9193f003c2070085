"""Measures the embedded server against the raw limit of its runtime, side by side.

    python -m tests.bench.serving --model sentiment --repository model_repository

Several rounds go through all cases in turn, so that whatever else the machine does meets all of
them alike. The raw limits are the same model in this process, without a server: the host's steps
with ONNX Runtime, and the SavedModel in TensorFlow. The load comes from another process, one text
or image a request; server, load and everything else share the machine's cores, so trust CPU time
and ratios more than requests per second.
"""

import argparse
import dataclasses
import json
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from clients.demo.latency import LatencySummary, repeated, time_sequential
from clients.demo.repository import published_models
from clients.demo.server_process import ServerProcess
from clients.report import table
from protocol.version_folder import Manifest
from tests.bench.raw_model import (
    RawCTranslate2,
    RawModel,
    RawOnnx,
    equal_translations,
    raw_models,
)
from tests.bench.workloads import Workload, workloads

CONCURRENCIES = (1, 8, 32)
WARM_UP_S = 0.3
START_TIMEOUT_S = 60.0
METRICS_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Measurement:
    """One case in one round.

    Attributes:
        per_second: Items answered per second.
        p50_ms: Median latency of a call.
        p99_ms: 99th percentile of the latency of a call.
        cpu_ms: CPU time of the measured process per item: the server, or this one if raw.
        batch_rows: Mean rows in a run of the model.
    """

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    batch_rows: float


@dataclass(frozen=True)
class Case:
    """Something to measure: what is sent, and how.

    Attributes:
        workload: Name of what is sent.
        name: How it is sent.
        measure: Measures for so many seconds.
        limit: Name of the raw case it is compared with; its own if it is one.
    """

    workload: str
    name: str
    measure: Callable[[float], Measurement]
    limit: str


@dataclass(frozen=True)
class Result:
    """A case over all rounds: medians, and its relation to the raw limit."""

    workload: str
    case: str
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    batch_rows: float
    speed_to_raw: float
    cpu_to_raw: float


class Load:
    """The process that sends requests."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def send(self, workload: str, concurrency: int, seconds: float) -> LatencySummary:
        """Sends items of one kind for so many seconds."""
        command = {"workload": workload, "concurrency": concurrency, "seconds": seconds}
        _pipe(self._process.stdin).write(json.dumps(command) + "\n")
        _pipe(self._process.stdin).flush()
        answer = _pipe(self._process.stdout).readline()
        if not answer:
            raise SystemExit("error: the load process has ended; its message is above")
        return LatencySummary(**json.loads(answer))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark, prints its table and returns the exit status."""
    arguments = build_parser().parse_args(argv)
    folder = _version_folder(arguments.repository, arguments.model)
    loads = workloads(Manifest.read(folder).task, folder)
    engines = {load.name: raw_models(folder, load) for load in loads}
    notes = list(agreement_lines(engines, loads))
    raw = [case for load in loads for case in raw_cases(engines[load.name], load)]
    with (
        ServerProcess(arguments.repository, [arguments.model], arguments.server_flag) as server,
        _load_process(server.target, arguments.model, folder) as load_process,
    ):
        server.wait_until_serving(START_TIMEOUT_S)
        served = [case for load in loads for case in served_cases(server, load_process, load)]
        rounds = measure_rounds([*raw, *served], arguments.rounds, arguments.seconds)
    results = summarise([*raw, *served], rounds)
    for line in (*report_lines(results, loads, arguments), *notes):
        print(line)
    if arguments.json:
        document = {"model": arguments.model, "results": list(map(dataclasses.asdict, results))}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Describes the options."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.serving",
        description="Measure the embedded server against the raw limits of the engines.",
    )
    parser.add_argument("--model", default="sentiment", help="published model to serve")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), metavar="DIR")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="time of all rounds (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument(
        "--server-flag",
        action="append",
        default=[],
        metavar="--FLAG=VALUE",
        help="further flag of the server; may be repeated: --server-flag=--name=value",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    return parser


def raw_cases(models: Sequence[RawModel], load: Workload) -> Iterator[Case]:
    """Yields the cases without a server; the first engine is the limit of the served ones."""
    for model in models:
        for size in load.raw_batches:
            batches = list(_batches(load.items, size))

            def measure(
                seconds: float, model: RawModel = model, batches: list[list[Any]] = batches
            ) -> Measurement:
                return measure_raw(model, batches, seconds)

            limit = _raw_name(models[0].name, size)
            yield Case(load.name, _raw_name(model.name, size), measure, limit)


def served_cases(server: ServerProcess, process: Load, load: Workload) -> Iterator[Case]:
    """Yields the cases that go through the server."""
    for concurrency in CONCURRENCIES:

        def measure(seconds: float, concurrency: int = concurrency) -> Measurement:
            return measure_served(server, process, load.name, concurrency, seconds)

        client = "sync client" if concurrency == 1 else "async client"
        batch = load.raw_batches[0] if concurrency == 1 else load.raw_batches[-1]
        limit = _raw_name(RawOnnx.name, batch)
        yield Case(load.name, f"{client}, {concurrency} at a time", measure, limit)


def measure_raw(model: RawModel, batches: Sequence[list[Any]], seconds: float) -> Measurement:
    """Runs batches of equal size in this process."""
    rows = len(batches[0])
    time_sequential(model.run, repeated(batches, min(WARM_UP_S, seconds / 4)))
    cpu_s = time.process_time()
    summary = time_sequential(model.run, repeated(batches, seconds))
    cpu_s = time.process_time() - cpu_s
    items = summary.calls * rows
    return Measurement(
        per_second=items / summary.seconds,
        p50_ms=summary.p50_ms,
        p99_ms=summary.p99_ms,
        cpu_ms=1000 * cpu_s / items,
        batch_rows=rows,
    )


def measure_served(
    server: ServerProcess, process: Load, workload: str, concurrency: int, seconds: float
) -> Measurement:
    """Sends items to the server and looks at it before and after."""
    process.send(workload, concurrency, min(WARM_UP_S, seconds / 4))
    before = _server_state(server)
    summary = process.send(workload, concurrency, seconds)
    after = _server_state(server)
    answered = after.rows - before.rows
    return Measurement(
        per_second=summary.per_second,
        p50_ms=summary.p50_ms,
        p99_ms=summary.p99_ms,
        cpu_ms=1000 * (after.cpu_s - before.cpu_s) / answered,
        batch_rows=answered / (after.runs - before.runs),
    )


def measure_rounds(cases: Sequence[Case], rounds: int, seconds: float) -> list[list[Measurement]]:
    """Measures all cases in turn, round after round: [rounds][cases]."""
    share_s = seconds / (rounds * len(cases))
    measured = []
    for number in range(1, rounds + 1):
        in_round = []
        for index, case in enumerate(cases, 1):
            _show_progress(f"round {number}/{rounds}, case {index}/{len(cases)}")
            in_round.append(case.measure(share_s))
        measured.append(in_round)
    _show_progress("")
    return measured


def summarise(cases: Sequence[Case], rounds: Sequence[Sequence[Measurement]]) -> list[Result]:
    """Takes each case's median over the rounds, and divides it by that of its raw limit."""
    medians = {
        (case.workload, case.name): _median(in_rounds)
        for case, in_rounds in zip(cases, zip(*rounds, strict=True), strict=True)
    }
    results = []
    for case in cases:
        found = medians[case.workload, case.name]
        limit = medians[case.workload, case.limit]
        results.append(
            Result(
                workload=case.workload,
                case=case.name,
                **dataclasses.asdict(found),
                speed_to_raw=found.per_second / limit.per_second,
                cpu_to_raw=found.cpu_ms / limit.cpu_ms,
            )
        )
    return results


def report_lines(
    results: Sequence[Result], loads: Sequence[Workload], arguments: argparse.Namespace
) -> Iterator[str]:
    """Yields the table, one block a workload."""
    yield (
        f"{arguments.model}: medians of {arguments.rounds} rounds, {arguments.seconds:g} s in all, "
        f"{os.cpu_count()} cores shared by server and load"
    )
    heading = ("", "items/s", "p50 ms", "p99 ms", "speed:raw", "CPU ms", "CPU:raw", "batch")
    for load in loads:
        rows = [_cells(result) for result in results if result.workload == load.name]
        threads = load.raw_threads or os.cpu_count()
        yield ""
        yield f"{load.title}; raw ONNX Runtime on {threads} thread(s)"
        yield from table([heading, *rows], align_right=range(1, len(heading)))
    yield ""
    yield "speed:raw and CPU:raw compare with raw ONNX Runtime, at batch 1 for one at a time, else"
    yield "at the larger batch. CPU ms is the server's CPU time per item (raw: this process's),"
    yield "batch the mean rows of a run."


def agreement_lines(
    engines: Mapping[str, Sequence[RawModel]], loads: Sequence[Workload]
) -> Iterator[str]:
    """Yields how often CTranslate2 says the same as ONNX Runtime, where it takes part."""
    for load in loads:
        onnx, *others = engines[load.name]
        for other in others:
            if isinstance(other, RawCTranslate2):
                share = equal_translations(onnx, other, load.items)
                yield f"{load.title}: {other.name} translates {share:.0%} of the texts alike"


def _cells(result: Result) -> tuple[str, ...]:
    return (
        result.case,
        f"{result.per_second:,.0f}",
        f"{result.p50_ms:.2f}",
        f"{result.p99_ms:.2f}",
        f"{result.speed_to_raw:.2f}",
        f"{result.cpu_ms:.3f}",
        f"{result.cpu_to_raw:.2f}",
        f"{result.batch_rows:.1f}",
    )


def _median(in_rounds: Sequence[Measurement]) -> Measurement:
    names = [field.name for field in dataclasses.fields(Measurement)]
    return Measurement(
        **{name: statistics.median(getattr(one, name) for one in in_rounds) for name in names}
    )


@dataclass(frozen=True)
class _ServerState:
    cpu_s: float
    rows: float
    runs: float


def _server_state(server: ServerProcess) -> _ServerState:
    with urllib.request.urlopen(server.metrics_url, timeout=METRICS_TIMEOUT_S) as page:
        text = page.read().decode()
    times = psutil.Process(server.pid).cpu_times()
    return _ServerState(
        cpu_s=times.user + times.system,
        rows=metric_total(text, "serving_batch_rows_sum"),
        runs=metric_total(text, "serving_batch_rows_count"),
    )


def metric_total(page: str, name: str) -> float:
    """Returns the sum of a metric's series on a page of metrics."""
    pattern = re.compile(rf"^{re.escape(name)}(?:\{{.*\}})? (\S+)$", re.MULTILINE)
    return sum(float(value) for value in pattern.findall(page))


@contextmanager
def _load_process(target: str, model: str, folder: Path) -> Iterator[Load]:
    command = [sys.executable, "-m", "tests.bench.load_process", target, model, str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Load(process)
        finally:
            process.kill()


def _version_folder(repository: Path, model: str) -> Path:
    models = {found.name: found for found in published_models(repository)}
    if model not in models:
        raise SystemExit(
            f"error: no model {model!r} in {repository}; found: {', '.join(models) or 'none'}"
        )
    return repository / model / str(models[model].version)


def _batches(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    """Yields the items in batches of exactly `size`."""
    for start in range(0, len(items) - size + 1, size):
        yield list(items[start : start + size])


def _raw_name(engine: str, batch: int) -> str:
    return f"{engine}, batch {batch}"


def _show_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise RuntimeError("the load process has no such pipe")
    return pipe


if __name__ == "__main__":
    sys.exit(main())
