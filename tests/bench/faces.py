"""Measures what serving adds to a small model, by both gRPC faces, beside the raw runtime.

    python -m tests.bench.faces

The model is a text classifier, int32 [N, 64] -> float32 [N, 2], of one small GRU. Several rounds go
through all cases in turn, so that whatever else the machine does meets all of them alike; server
and client share its cores, so trust processor time and ratios. Needs h2load (nghttp2-client).
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
import psutil
from onnx import TensorProto, helper, numpy_helper

from clients.demo.server_process import ServerProcess
from clients.report import table
from protocol.messages import PredictRequest
from protocol.predict_wire import write_response
from protocol.services import PREDICT
from protocol.tensors import to_tensor_proto
from serving.faces.http2.messages import framed
from tests.bench.load import send

MODEL, TOKENS, WORDS, UNITS = "light", 64, 1000, 32
FACES = ("nghttp2", "grpcio")
CONCURRENCIES = (1, 8, 32, 64)
RAW_BATCHES = (1, 8, 32)
START_TIMEOUT_S = 60.0


class Figures(NamedTuple):
    """One case in one round; `cpu_us` is the server's, or this process's, per request."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    client_cpu_us: float
    memory_mb: float


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.faces", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each case and round")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args(argv)
    if shutil.which("h2load") is None:
        print("error: h2load is missing; Debian has it in nghttp2-client", file=sys.stderr)
        return 1
    print("\n".join(table(_rows(_measure(arguments.seconds, arguments.rounds)))))
    return 0


def _measure(seconds: float, rounds: int) -> dict[str, list[Figures]]:
    """Returns the figures of each round, by case."""
    found: dict[str, list[Figures]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        version = Path(folder) / MODEL / "1"
        version.mkdir(parents=True)
        onnx.save(small_classifier(), version / "model.onnx")
        servers = {face: stack.enter_context(_server(Path(folder), face)) for face in FACES}
        for server in servers.values():
            server.wait_until_serving(START_TIMEOUT_S)
        for _ in range(rounds):
            for batch in RAW_BATCHES:
                found[f"raw ONNX Runtime, batch {batch}"].append(_raw(version, batch, seconds / 4))
            for concurrency in CONCURRENCIES:
                for face, server in servers.items():
                    found[f"{face}, {concurrency} at a time"].append(
                        _served(server, concurrency, seconds)
                    )
    return found


def _rows(found: dict[str, list[Figures]]) -> list[Sequence[str]]:
    medians = {
        case: Figures(*(statistics.median(column) for column in zip(*rounds, strict=True)))
        for case, rounds in found.items()
    }
    alone, joined = (medians[f"raw ONNX Runtime, batch {n}"] for n in (1, RAW_BATCHES[-1]))
    rows: list[Sequence[str]] = [
        ("CASE", "REQ/S", "OF RAW", "P50 MS", "P99 MS", "CPU US", "OF RAW", "CLIENT US", "MB")
    ]
    for case, figures in medians.items():
        raw = alone if case.endswith((" batch 1", " 1 at a time")) else joined
        rows.append(
            (
                case,
                f"{figures.per_second:,.0f}",
                f"{figures.per_second / raw.per_second:.2f}",
                f"{figures.p50_ms:.3f}",
                f"{figures.p99_ms:.3f}",
                f"{figures.cpu_us:.1f}",
                f"{figures.cpu_us / raw.cpu_us:.2f}",
                f"{figures.client_cpu_us:.1f}",
                f"{figures.memory_mb:.0f}",
            )
        )
    return rows


def _server(repository: Path, face: str) -> ServerProcess:
    return ServerProcess(
        repository,
        [MODEL],
        ("--tensorflow_intra_op_parallelism=1", f"--grpc_face={face}"),
    )


def _served(server: ServerProcess, concurrency: int, seconds: float) -> Figures:
    process = psutil.Process(server.pid)
    before = process.cpu_times()
    load = send(
        int(server.target.partition(":")[2]),
        PREDICT.path,
        _request(),
        len(_answer()),
        concurrency,
        seconds,
    )
    after = process.cpu_times()
    cpu_s = (after.user + after.system) - (before.user + before.system)
    requests = load.per_second * (seconds + 1)  # with those of the warm-up
    return Figures(
        load.per_second, load.p50_ms, load.p99_ms, cpu_s / requests * 1e6, load.client_cpu_us,
        process.memory_info().rss / 1e6,
    )  # fmt: skip


def _raw(version: Path, batch: int, seconds: float) -> Figures:
    """Runs the model in this process, on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(version / "model.onnx", options)
    ids = _ids(batch)
    times_s, started, cpu = [], time.perf_counter(), time.process_time()
    while time.perf_counter() - started < seconds:
        begun = time.perf_counter()
        session.run(None, {"token_ids": ids})
        times_s.append(time.perf_counter() - begun)
    rows = len(times_s) * batch
    return Figures(
        rows / (time.perf_counter() - started),
        float(np.percentile(times_s, 50)) * 1e3,
        float(np.percentile(times_s, 99)) * 1e3,
        (time.process_time() - cpu) / rows * 1e6,
        0.0,
        psutil.Process().memory_info().rss / 1e6,
    )


def _ids(rows: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, WORDS, (rows, TOKENS)).astype(np.int32)


def _request() -> bytes:
    request = PredictRequest()
    request.model_spec.name = MODEL
    request.inputs["token_ids"].CopyFrom(to_tensor_proto(_ids(1)))
    return framed(request.SerializeToString())


def _answer() -> bytes:
    """An answer of the size that good ones have."""
    outputs = {"probability": np.ones((1, 2), np.float32)}
    return framed(write_response(MODEL, 1, "serving_default", outputs, content=False))


def small_classifier() -> onnx.ModelProto:
    """Builds token_ids int32 [N, 64] -> probability float32 [N, 2]: embedding, GRU, dense."""
    random = np.random.default_rng(0)
    weights = {
        "embedding": random.normal(0, 0.1, (WORDS, UNITS)),
        "kernel": random.normal(0, 0.2, (1, 3 * UNITS, UNITS)),
        "recurrence": random.normal(0, 0.2, (1, 3 * UNITS, UNITS)),
        "bias": random.normal(0, 0.1, (1, 6 * UNITS)),
        "dense": random.normal(0, 0.3, (UNITS, 2)),
        "dense_bias": np.zeros(2),
    }
    tensors = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in weights.items()]
    tensors.append(numpy_helper.from_array(np.array([0], np.int64), "first"))
    node = helper.make_node
    nodes = [
        node("Gather", ["embedding", "token_ids"], ["vectors"]),
        node("Transpose", ["vectors"], ["by_time"], perm=[1, 0, 2]),
        node("GRU", ["by_time", "kernel", "recurrence", "bias"], ["", "last"],
             hidden_size=UNITS, linear_before_reset=1),
        node("Squeeze", ["last", "first"], ["state"]),
        node("Gemm", ["state", "dense", "dense_bias"], ["logits"]),
        node("Softmax", ["logits"], ["probability"], axis=-1),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        MODEL,
        [helper.make_tensor_value_info("token_ids", TensorProto.INT32, ["N", TOKENS])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N", 2])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    sys.exit(main())
