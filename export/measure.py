"""Measures one file in one engine, in a process of its own: `python -m export.measure`.

Prints one JSON line. A process of its own, because memory that another file has touched, and
libraries that another engine has loaded, would count too.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.engines import FileBackend
from models.common.backends import SavedModelBackend
from protocol.contracts import SERVING_DEFAULT, TENSORS
from protocol.graphs import load_pipelines
from protocol.image_pipelines import IMAGE
from protocol.images import decode_image
from protocol.pipelines import Array
from protocol.subwords import PADDING_ID
from protocol.translation_pipeline import TOKEN_IDS
from protocol.version_folder import ASSETS_FOLDER, SAMPLES_FOLDER, Manifest

SAVED_MODEL, OPENVINO = "saved_model", "openvino"
TEXTS = {
    "sentiment": "It starts slowly, but the last act pays for all of it: a small, honest film.",
    "translation": "Where is the nearest railway station?",
    "translation_dates": "Tuesday, April 8, 2014",
}
BATCHES = (1, 4, 8)
Answer = Callable[[dict[str, Array]], Any]
_LEAST_RUNS, _MOST_RUNS = 3, 200
_BUDGET_S = 0.6
_KIB = 1 << 10


@dataclass(frozen=True)
class Measurement:
    """What one process found.

    Attributes:
        first_answer_unix_s: clock time of the first answer, for the cold start.
        latency_ms: time of one row, the shortest found: others on the machine only add to it.
        rows_per_s: best throughput of `BATCHES`.
        batch: the number of rows at which it was reached.
        peak_mb: largest resident memory of the process.
        differs: what OpenVINO answers that ONNX Runtime does not; empty for other engines.
    """

    first_answer_unix_s: float
    latency_ms: float
    rows_per_s: float
    batch: int
    peak_mb: float
    differs: str = ""


def measure(folder: Path, name: str, engine: str, threads: int) -> Measurement:
    """Loads a file and times the signature `tensors`.

    Args:
        folder: version folder.
        name: format of the file.
        engine: `openvino` for an ONNX file, else what is made for the format.
        threads: within one operation.
    """
    answer = _answer(folder, name, engine, threads)
    inputs = sample_inputs(folder)
    answer(_repeated(inputs, 1))
    first = time.time()
    times = _times_s(answer, inputs)
    batch = max(times, key=lambda rows: rows / times[rows])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB
    return Measurement(
        first_answer_unix_s=first,
        latency_ms=1e3 * times[1],
        rows_per_s=batch / times[batch],
        batch=batch,
        peak_mb=peak,
        differs=_difference(folder, name, inputs, answer) if engine == OPENVINO else "",
    )


def _difference(folder: Path, name: str, inputs: dict[str, Array], answer: Answer) -> str:
    """Compares with ONNX Runtime: one row, and a text beside one that is cut and padded."""
    requests = [inputs]
    if TOKEN_IDS in inputs:
        cut = inputs[TOKEN_IDS].copy()
        cut[:, cut.shape[1] // 2 :] = PADDING_ID
        requests.append({TOKEN_IDS: np.concatenate([inputs[TOKEN_IDS], cut])})
    reference = FileBackend(folder, name, signature=TENSORS).run_signature
    found = (describe_difference(answer(each), reference(each)) for each in requests)
    return "; ".join(dict.fromkeys(text for text in found if text))


def describe_difference(found: Mapping[str, Array], expected: Mapping[str, Array]) -> str:
    """Tells which outputs differ: numbers by more than a thousandth of the largest, others at all.

    Returns:
        Text for people, empty where there is none.
    """
    texts = []
    for name, values in expected.items():
        if values.shape != found[name].shape:
            texts.append(f"{name} has other sizes")
        elif values.dtype.kind == "f":
            worst = float(np.abs(values - found[name]).max(initial=0.0))
            if not worst <= 1e-3 * max(1.0, float(np.abs(values).max(initial=0.0))):
                texts.append(f"{name} by up to {worst:.3g}")
        elif not np.array_equal(values, found[name]):
            texts.append(f"{name} in {np.mean(values != found[name]):.1%}")
    return ", ".join(texts)


def sample_inputs(folder: Path) -> dict[str, Array]:
    """Makes one row of the signature `tensors`: a sample image, or the tokens of a text."""
    manifest = Manifest.read(folder)
    text = TEXTS.get(manifest.model_name, TEXTS.get(manifest.task))
    if text is None:
        samples = sorted((folder / ASSETS_FOLDER / SAMPLES_FOLDER).iterdir())
        return {IMAGE: decode_image(samples[0].read_bytes())[None]}
    pipeline = load_pipelines(folder, manifest)[SERVING_DEFAULT]
    prepared = pipeline.prepare({"text": np.array([text.encode()], dtype=object)})
    return {TOKEN_IDS: prepared.tensors[TOKEN_IDS]}


def _answer(folder: Path, name: str, engine: str, threads: int) -> Answer:
    if name == SAVED_MODEL:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        return SavedModelBackend(folder, TENSORS).run_signature
    if engine == OPENVINO:
        from export.openvino import OpenVinoBackend

        return OpenVinoBackend(folder, name, threads, TENSORS).run_signature
    return FileBackend(folder, name, threads, TENSORS).run_signature


def _repeated(inputs: dict[str, Array], rows: int) -> dict[str, Array]:
    return {name: np.repeat(value, rows, axis=0) for name, value in inputs.items()}


def _times_s(answer: Answer, inputs: dict[str, Array]) -> dict[int, float]:
    """Times a row, and more rows together while that takes no more than `_BUDGET_S`."""
    times = {1: _best_s(answer, inputs)}
    for rows in BATCHES[1:]:
        if rows * times[1] <= _BUDGET_S:
            times[rows] = _best_s(answer, _repeated(inputs, rows))
    return times


def _best_s(answer: Answer, inputs: dict[str, Array]) -> float:
    answer(inputs)  # the first finds caches cold
    times: list[float] = []
    while len(times) < _LEAST_RUNS or (sum(times) < _BUDGET_S and len(times) < _MOST_RUNS):
        started = time.perf_counter()
        answer(inputs)
        times.append(time.perf_counter() - started)
    return min(times)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures what the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m export.measure", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("format")
    parser.add_argument("--engine", default="")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args(argv)
    found = measure(arguments.folder, arguments.format, arguments.engine, arguments.threads)
    print(json.dumps(asdict(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
