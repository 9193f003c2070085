"""One table of every model and format: size, speed, memory, cold start, metric and its drop.

Every file is measured in processes of its own, with one thread and with two; ONNX files in
OpenVINO too, where it is installed. All of a model take turns, round after round, and the best of
each figure counts: what else the machine does meanwhile then disturbs none of them alone.
"""

import csv
import importlib.util
import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from export.formats import ALL_FORMATS, format_files, read_refusals
from export.measure import OPENVINO, SAVED_MODEL
from protocol.version_folder import SAVED_MODEL_FILE, VARIABLES_FOLDER, Manifest

logger = logging.getLogger(__name__)

THREADS = (1, 2)
ROUNDS = 2
_TIMEOUT_S = 300
_MB = 1e6
_NONE = "–"


@dataclass(frozen=True)
class Row:
    """One file in one engine; None where nothing was measured.

    Attributes:
        model: name under which it is served.
        format: of the file.
        engine: what ran it.
        size_mb: of the file or files, 10^6 bytes.
        latency_1_ms: time of one row with one thread.
        latency_2_ms: likewise with two.
        rows_per_s_1: best throughput with one thread.
        rows_per_s_2: likewise with two.
        peak_mb: largest resident memory with one thread, 2^20 bytes.
        cold_start_s: from starting a process to its first answer.
        metric: name of the task metric.
        value: of this file.
        drop: Keras' value less this one.
        note: why something is missing.
        differs: what it answers that the engine made for the format does not.
    """

    model: str
    format: str
    engine: str
    size_mb: float | None = None
    latency_1_ms: float | None = None
    latency_2_ms: float | None = None
    rows_per_s_1: float | None = None
    rows_per_s_2: float | None = None
    peak_mb: float | None = None
    cold_start_s: float | None = None
    metric: str = ""
    value: float | None = None
    drop: float | None = None
    note: str = ""
    differs: str = ""


def measure_folders(folders: Sequence[Path]) -> list[Row]:
    """Measures every format of version folders; what a folder refused is a row with its reason."""
    return [row for folder in folders for row in _rows(folder)]


def _rows(folder: Path) -> Iterator[Row]:
    manifest = Manifest.read(folder)
    refused = read_refusals(folder)
    contenders = [
        Row(manifest.model_name, name, engine, note=refused.get(name, ""))
        for name in ALL_FORMATS
        if name in refused or _files(folder, name)
        for engine in _engines(name)
    ]
    measured = [row for row in contenders if not row.note]
    rounds = [[_measured(folder, manifest, row) for row in measured] for _ in range(ROUNDS)]
    best = [_best(rows) for rows in zip(*rounds, strict=True)]
    yield from (row for row in contenders if row.note)
    yield from best


def _engines(name: str) -> list[str]:
    engine = _engine(name)
    compared = engine == "onnxruntime" and _has_openvino()
    return [engine, OPENVINO] if compared else [engine]


def _best(rows: Sequence[Row]) -> Row:
    """Takes the best of each figure; the first row without any, where one failed."""
    failed = [row for row in rows if row.note]
    if failed:
        return failed[0]
    lowest = ("latency_1_ms", "latency_2_ms", "peak_mb", "cold_start_s")
    highest = ("rows_per_s_1", "rows_per_s_2")
    figures = {name: min(getattr(row, name) for row in rows) for name in lowest}
    figures |= {name: max(getattr(row, name) for row in rows) for name in highest}
    return replace(rows[0], **figures)


def _measured(folder: Path, manifest: Manifest, row: Row) -> Row:
    try:
        one, two = (_run(folder, row.format, row.engine, threads) for threads in THREADS)
    except RuntimeError as error:
        return replace(row, note=str(error))
    parity = manifest.parity.get(row.format, {}) if row.engine != OPENVINO else {}
    logger.info("%s %s in %s: %.2f ms", row.model, row.format, row.engine, one["latency_ms"])
    return replace(
        row,
        size_mb=sum(path.stat().st_size for path in _files(folder, row.format)) / _MB,
        latency_1_ms=one["latency_ms"],
        latency_2_ms=two["latency_ms"],
        rows_per_s_1=one["rows_per_s"],
        rows_per_s_2=two["rows_per_s"],
        peak_mb=one["peak_mb"],
        cold_start_s=one["cold_start_s"],
        metric=parity.get("metric", ""),
        value=parity.get("metric_engine"),
        drop=parity["metric_keras"] - parity["metric_engine"] if parity else None,
        differs=one["differs"],
    )


def _run(folder: Path, name: str, engine: str, threads: int) -> dict[str, Any]:
    """Measures in a process of its own.

    Raises:
        RuntimeError: it failed; the message is the last line of what it said.
    """
    command = [sys.executable, "-m", "export.measure", str(folder), name]
    command += ["--engine", engine, "--threads", str(threads)]
    started = time.time()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no answer within {_TIMEOUT_S} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(lines[-1][:160])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**found, "cold_start_s": found["first_answer_unix_s"] - started}


def _engine(name: str) -> str:
    if name == SAVED_MODEL:
        return "tensorflow"
    return "onnxruntime" if name.startswith("onnx") else "litert"


def _files(folder: Path, name: str) -> tuple[Path, ...]:
    if name != SAVED_MODEL:
        return format_files(folder, name)
    if not (folder / SAVED_MODEL_FILE).is_file():
        return ()
    return (folder / SAVED_MODEL_FILE, *(folder / VARIABLES_FOLDER).iterdir())


def _has_openvino() -> bool:
    return importlib.util.find_spec("openvino") is not None


def write_table(rows: Sequence[Row], folder: Path) -> None:
    """Writes `formats.md`, `formats.csv` and `formats.png` to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "formats.md").write_text(markdown(rows), encoding="utf-8")
    with (folder / "formats.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        names = [field.name for field in fields(Row)]
        writer.writerow(names)
        writer.writerows([getattr(row, name) for name in names] for row in rows)
    plot(rows, folder / "formats.png")


def markdown(rows: Sequence[Row]) -> str:
    """Returns the table, and below it why something is missing or not to be trusted."""
    heads = (
        "model | format | engine | MB | ms, 1 thread | ms, 2 | rows/s, 1 thread | rows/s, 2 "
        "| peak MB | cold start s | metric | drop"
    )
    lines = [f"| {heads} |", "|---|---|---|" + "---:|" * 7 + "---|---:|"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    notes = [
        f"- {row.model}, {row.format}, {row.engine}: {text}"
        for row in rows
        if (text := row.note or (row.differs and f"other answers, {row.differs}"))
    ]
    return "\n".join([*lines, *(["", *notes] if notes else [])]) + "\n"


def _cells(row: Row) -> list[str]:
    metric = _NONE if row.value is None else f"{row.metric} {row.value:.4f}"
    return [
        row.model,
        row.format,
        row.engine,
        _number(row.size_mb, 2),
        _number(row.latency_1_ms, 2),
        _number(row.latency_2_ms, 2),
        _number(row.rows_per_s_1, 0),
        _number(row.rows_per_s_2, 0),
        _number(row.peak_mb, 0),
        _number(row.cold_start_s, 1),
        metric,
        _number(row.drop, 4),
    ]


def _number(value: float | None, digits: int) -> str:
    return _NONE if value is None else f"{round(value, digits) + 0.0:.{digits}f}"  # no -0.0


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draws latency with one thread by model: a bar for each format and engine."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    measured = [row for row in rows if row.latency_1_ms is not None]
    models = list(dict.fromkeys(row.model for row in measured))
    figure, axes = plt.subplots(
        1, max(1, len(models)), figsize=(3.2 * max(1, len(models)), 3.6), squeeze=False
    )
    for axis, model in zip(axes[0], models, strict=False):
        mine = [row for row in measured if row.model == model]
        names = [f"{row.format}\n{row.engine}" for row in mine]
        axis.barh(names, [row.latency_1_ms for row in mine])
        axis.invert_yaxis()
        axis.set_title(model, fontsize=9)
        axis.set_xlabel("ms, batch 1, one thread", fontsize=8)
        axis.tick_params(labelsize=6)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
