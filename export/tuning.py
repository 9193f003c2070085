"""How a server best runs a version, found by measuring it for a few seconds.

The version's own warm-up requests go through the steps that the server takes. Three rules choose:

- Threads of an operation: 1, unless each further one shortens a request by 15 %. The server's
  worker threads and its other models want the cores too.
- Rows of a batch: the fewest whose work for a row is within 5 % of the least. More rows only make
  callers wait.
- Place of a run: the event loop, if every request takes half a millisecond of work at most. A
  thread would take longer to wake up.

What is compared runs in turn, round after round, and the best of each counts: other processes only
ever lengthen a run. Work is processor time of all threads; a server whose cores are all busy
answers as many requests as it has processor time for.
"""

import os
import platform
import re
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, takewhile
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from protocol.contracts import SERVING_DEFAULT, TENSORS, check_inputs
from protocol.graphs import Session, SessionGraph, load_pipelines
from protocol.pipelines import Pipeline, Prepared, common_rows, parameter_names
from protocol.tensors import to_ndarray, to_tensor_proto
from protocol.version_folder import (
    ONNX_FILE,
    WARMUP_FILE,
    Manifest,
    ServingTuning,
    onnx_files,
    verify_files,
)
from protocol.warmup import read_warmup

FASTER_PER_THREAD = 0.15
ENOUGH_EFFICIENCY = 0.95
INLINE_MS = 0.5

# With more threads than these, no machine can gain so much by each.
_MOST_THREADS = 16
_MOST_ROWS = 512
_LONGEST_RUN_MS = 250.0

_LEAST_ROUNDS, _MOST_ROUNDS = 3, 50
_ROUNDS_S = 1.0
_MOST_IN_A_ROW, _IN_A_ROW_MS = 20, 5.0

Inputs = dict[str, np.ndarray]
Key = TypeVar("Key", bound=Hashable)


class Timing(NamedTuple):
    """The best of several runs.

    Attributes:
        wall_ms: time.
        work_ms: processor time.
    """

    wall_ms: float
    work_ms: float


def tune_version(folder: Path) -> ServingTuning:
    """Measures a version and records in its manifest how to run it.

    Args:
        folder: version folder with an ONNX graph; it may be one that a server has loaded.

    Returns:
        What was recorded.

    Raises:
        ServiceError: a file of the version is damaged or missing, or a request fails.
        ValueError: the version has no ONNX graph or no warm-up request to measure with.
    """
    manifest = verify_files(folder)
    if not (folder / ONNX_FILE).is_file():
        raise ValueError(f"{folder} holds no {ONNX_FILE}")
    tuning = measure(folder, manifest, thread_counts(os.cpu_count() or 1))
    replace(manifest, tuning=tuning).rewrite(folder)
    return tuning


# The rules.


def choose_threads(request_ms: Mapping[int, float]) -> int:
    """Returns the fastest thread count among those that are worth their threads.

    Args:
        request_ms: time of one request, by threads; 1 is among them.
    """
    worth = [
        threads
        for threads, ms in sorted(request_ms.items())
        if ms <= request_ms[1] * (1 - FASTER_PER_THREAD) ** (threads - 1)
    ]
    return min(worth, key=request_ms.__getitem__)


def choose_batch_size(work_ms: Mapping[int, float]) -> int:
    """Returns the smallest batch with nearly the best throughput.

    Args:
        work_ms: work of a run, by its rows.
    """
    throughput = {rows: rows / ms for rows, ms in work_ms.items()}
    enough = ENOUGH_EFFICIENCY * max(throughput.values())
    return min(rows for rows, found in throughput.items() if found >= enough)


def choose_place(work_ms: Sequence[float]) -> bool | None:
    """Tells whether the event loop runs a single request itself.

    Args:
        work_ms: work of each request, the usual one first.

    Returns:
        None where the usual request is short enough, but not every one.
    """
    if max(work_ms) <= INLINE_MS:
        return True
    return None if work_ms[0] <= INLINE_MS else False


# The measurement.


def thread_counts(cpus: int) -> list[int]:
    """Returns the thread counts to try: doubled from 1 on, up to the number of CPUs."""
    most = min(cpus, _MOST_THREADS)
    return [*takewhile(lambda threads: threads < most, (1 << n for n in count())), most]


def measure(folder: Path, manifest: Manifest, threads: Sequence[int]) -> ServingTuning:
    """Times the runs of a version, and applies the rules.

    Args:
        folder: version folder.
        manifest: its manifest.
        threads: thread counts to try; 1 is among them.

    Raises:
        ServiceError: an asset is damaged or missing, or a request fails.
        ValueError: there is no warm-up request to measure with.
    """
    load = os.getloadavg()[0]
    pipeline = _pipeline(folder, manifest)
    usual, *others = [pipeline.prepare(inputs) for inputs in read_requests(folder, pipeline)]
    trials = {each: _Trial(pipeline, _open_graph(folder, each)) for each in threads}
    alone = {each: partial(trial.run, [usual]) for each, trial in trials.items()}
    request_ms = _latency_ms(time_in_turn(alone))
    chosen = choose_threads(request_ms)
    run = trials[chosen].run
    sizes = _batch_sizes(lambda rows: run([usual] * rows))
    batch_ms = _work_ms(time_in_turn({rows: partial(run, [usual] * rows) for rows in sizes}))
    work_ms = [batch_ms[1]]
    if batch_ms[1] <= INLINE_MS:
        rest = {place: partial(run, [item]) for place, item in enumerate(others)}
        work_ms += _work_ms(time_in_turn(rest)).values()
    return ServingTuning(
        intra_op_threads=chosen,
        max_batch_size=choose_batch_size(batch_ms),
        runs_inline=choose_place(work_ms),
        measured={
            "cpus": os.cpu_count(),
            "processor": processor_name(),
            "load_before": round(load, 1),
            "request_ms_by_threads": {str(n): round(ms, 4) for n, ms in request_ms.items()},
            "row_work_ms_by_batch": {str(n): round(ms / n, 4) for n, ms in batch_ms.items()},
            "heaviest_request_work_ms": round(max(work_ms), 4),
        },
    )


def _pipeline(folder: Path, manifest: Manifest) -> Pipeline:
    """The signature that callers use most."""
    pipelines = load_pipelines(folder, manifest)
    for name in (SERVING_DEFAULT, TENSORS):
        if name in pipelines:
            return pipelines[name]
    raise ValueError(f"the manifest in {folder} has neither a known task nor signature {TENSORS}")


def _latency_ms(found: Mapping[int, Timing]) -> dict[int, float]:
    """The time of a request by threads; one thread takes its work, if nobody disturbs it."""
    latency_ms = {threads: timing.wall_ms for threads, timing in found.items()}
    return {**latency_ms, 1: min(found[1])}


def _work_ms(found: Mapping[Key, Timing]) -> dict[Key, float]:
    return {key: timing.work_ms for key, timing in found.items()}


def processor_name() -> str:
    """Names the kind of processor; only Linux knows more than the architecture."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def read_requests(folder: Path, pipeline: Pipeline) -> list[Inputs]:
    """Reads the warm-up requests of a signature, each row as a request of its own.

    Args:
        folder: version folder.
        pipeline: that of the signature.

    Returns:
        Inputs of one row, no two alike; the first are what exporters think usual.

    Raises:
        ContractError: one does not fit the signature.
        ValueError: there are none.
    """
    found: dict[tuple[bytes, ...], Inputs] = {}
    file = folder / WARMUP_FILE
    for log in read_warmup(file) if file.is_file() else ():
        request = log.predict_log.request
        if request.inputs and (request.model_spec.signature_name or SERVING_DEFAULT) == (
            pipeline.spec.name
        ):
            inputs = {name: to_ndarray(tensor) for name, tensor in sorted(request.inputs.items())}
            check_inputs(pipeline.spec, inputs)
            for row in _rows(inputs, parameter_names(pipeline.spec)):
                key = (to_tensor_proto(array).SerializeToString() for array in row.values())
                found.setdefault(tuple(key), row)
    if not found:
        raise ValueError(f"{file} holds no Predict request of signature {pipeline.spec.name}")
    return list(found.values())


def _rows(inputs: Inputs, parameters: frozenset[str]) -> list[Inputs]:
    rows = common_rows({name: array for name, array in inputs.items() if name not in parameters})
    return [
        {n: array if n in parameters else array[row : row + 1] for n, array in inputs.items()}
        for row in range(rows)
    ]


def _open_graph(folder: Path, threads: int) -> SessionGraph:
    return SessionGraph(*(open_session(path, threads) for path in onnx_files(folder)))


def open_session(path: Path, threads: int) -> Session:
    """Opens a graph with the options of `serving.runtimes.onnx`: what is measured is served.

    Raises:
        ValueError: ONNX Runtime can not load it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 4
    providers = [name for name in onnxruntime.get_available_providers() if "Azure" not in name]
    try:
        session: Session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        raise ValueError(f"ONNX Runtime can not load {path}: {error}") from error
    return session


@dataclass(frozen=True)
class _Trial:
    """One way of running a signature."""

    pipeline: Pipeline
    graph: SessionGraph

    def run(self, items: Sequence[Prepared]) -> None:
        """Answers requests of one row together, as the server's `run_batch` does."""
        outputs = self.pipeline.run(self.graph, self.pipeline.merge(items))
        for row, item in enumerate(items):
            mine = {name: values[row : row + 1] for name, values in outputs.items()}
            self.pipeline.finish(mine, item)


def _batch_sizes(run: Callable[[int], None]) -> list[int]:
    """Doubles the batch while a run stays short; there are two sizes at least."""
    sizes = [1, 2]
    while sizes[-1] < _MOST_ROWS:
        started = time.process_time()
        run(sizes[-1])
        if 2e3 * (time.process_time() - started) > _LONGEST_RUN_MS:
            break
        sizes.append(2 * sizes[-1])
    return sizes


def time_in_turn(trials: Mapping[Key, Callable[[], None]]) -> dict[Key, Timing]:
    """Runs several things, one after the other, round after round while there is time."""
    rounds: dict[Key, list[Timing]] = {key: [] for key in trials}
    ends = time.perf_counter() + _ROUNDS_S
    for done in range(_MOST_ROUNDS):
        if done >= _LEAST_ROUNDS and time.perf_counter() > ends:
            break
        for key, run in trials.items():
            rounds[key].append(_best_in_a_row(run))
    return {key: _best_of(timings) for key, timings in rounds.items()}


def _best_in_a_row(run: Callable[[], None]) -> Timing:
    """Runs something once, or repeatedly if it is short: the first time finds the caches cold."""
    timings: list[Timing] = []
    while len(timings) < _MOST_IN_A_ROW and sum(each.work_ms for each in timings) < _IN_A_ROW_MS:
        wall_s, work_s = time.perf_counter(), time.process_time()
        run()
        work_s, wall_s = time.process_time() - work_s, time.perf_counter() - wall_s
        timings.append(Timing(wall_s * 1e3, work_s * 1e3))
    return _best_of(timings)


def _best_of(timings: Sequence[Timing]) -> Timing:
    return Timing(*map(min, zip(*timings, strict=True)))
