"""One raw engine in a process of its own, told what to run by JSON lines on standard input.

    python -m tests.bench.raw_process onnx|saved_model VERSION_FOLDER REQUEST_FILE THREADS

The file holds a serialized PredictRequest of one row. A line is `{"batch": 8, "seconds": 2.0}`; the
answer is one line with `per_second`, `p50_ms`, `p99_ms` and `cpu_us`.
"""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from protocol.messages import PredictRequest
from protocol.tensors import to_ndarray
from tests.bench.rivals.servers.steps import Array, Steps, load_steps

_WARM_UP_RUNS = 2


def main(engine: str, folder: str, request_file: str, threads: str) -> None:
    """Carries out one command a line until standard input ends."""
    request = PredictRequest.FromString(Path(request_file).read_bytes())
    row = {name: to_ndarray(tensor) for name, tensor in request.inputs.items()}
    load = load_steps if engine == "onnx" else _load_saved_model
    run = load(Path(folder), int(threads))
    for line in sys.stdin:
        command = json.loads(line)
        rows = {name: np.repeat(array, command["batch"], axis=0) for name, array in row.items()}
        print(json.dumps(time_batches(run, rows, command["batch"], command["seconds"])), flush=True)


def time_batches(
    run: Steps, inputs: Mapping[str, Array], batch: int, seconds: float
) -> dict[str, float]:
    """Runs batches one after the other, at least one.

    Args:
        run: the engine.
        inputs: of a batch.
        batch: its rows.
        seconds: for how long.

    Returns:
        Rows per second, latencies of a batch, and processor time per row.
    """
    for _ in range(_WARM_UP_RUNS):
        run(inputs)
    times_s: list[float] = []
    started, cpu = time.perf_counter(), time.process_time()
    while not times_s or time.perf_counter() - started < seconds:
        begun = time.perf_counter()
        run(inputs)
        times_s.append(time.perf_counter() - begun)
    cpu = time.process_time() - cpu
    rows = len(times_s) * batch
    return {
        "per_second": rows / (time.perf_counter() - started),
        "p50_ms": float(np.percentile(times_s, 50)) * 1e3,
        "p99_ms": float(np.percentile(times_s, 99)) * 1e3,
        "cpu_us": cpu / rows * 1e6,
    }


def _load_saved_model(folder: Path, threads: int) -> Steps:
    import tensorflow as tf

    from models.common.backends import SavedModelBackend

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    return SavedModelBackend(folder).run_signature


if __name__ == "__main__":
    main(*sys.argv[1:])
