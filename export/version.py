"""Builds one version folder: every file is written, run, compared with Keras, then recorded."""

import datetime
import importlib
import importlib.metadata
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from export import FORMATS, edge
from export.formats import ALL_FORMATS, EDGE_FORMATS
from export.judges import Judge, make_judge
from export.parity import Parity, ParityError
from models.common.backends import Backend, OnnxBackend, SavedModelBackend
from models.common.commands import TrainedModel
from models.common.config import to_dict
from protocol.contracts import CONTRACTS
from protocol.drift import Reference
from protocol.version_folder import (
    ASSETS_FOLDER,
    MANIFEST_FILE,
    ONNX_FILE,
    WARMUP_FILE,
    Manifest,
)
from protocol.warmup import write_warmup

logger = logging.getLogger(__name__)

RECORDED_PACKAGES = ("tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "numpy")


class Exporter(Protocol):
    """What the export module of each task offers: `export.detection`, `export.sentiment` ..."""

    def model_to_export(self, run: Path | None, scratch: Path) -> Any:
        """Loads a run, else a TINY model that it trains in `scratch`."""

    def sample_examples(self) -> list[Any]:
        """Makes the examples on which engines are compared where no data is given."""

    def load_examples(self, data: Path, model: Any) -> list[Any]:
        """Reads the test or dev examples of a data folder instead."""

    def write_saved_model(self, model: Any, folder: Path) -> None:
        """Writes `saved_model.pb` and its variables."""

    def write_onnx(self, model: Any, path: Path) -> None:
        """Writes the graph of the signature `tensors`."""

    def write_assets(self, model: Any, folder: Path) -> None:
        """Writes vocabularies, labels and samples."""

    def warmup_requests(self, model_name: str) -> list[Any]:
        """Makes the requests that warm a server up."""

    def compare(self, model: Any, backend: Backend, engine: str, examples: Sequence[Any]) -> Parity:
        """Runs an engine and Keras on the same examples.

        Raises:
            ParityError: if they differ by more than the task tolerates.
        """

    def pipeline_parameters(self, model: Any) -> Mapping[str, Any]:
        """Returns what the host needs to know around the ONNX graph."""


def exporter_of(task: str) -> Exporter:
    """Imports the export module of a task, and TensorFlow with it.

    Raises:
        ValueError: for an unknown task.
    """
    if task not in CONTRACTS:
        raise ValueError(f"unknown task {task!r}; tasks: {', '.join(CONTRACTS)}")
    return cast(Exporter, importlib.import_module(f"export.{task}"))


def export_version(
    task: str,
    model: TrainedModel,
    folder: Path,
    formats: Sequence[str],
    examples: Sequence[Any],
    model_name: str | None = None,
    data: Path | None = None,
) -> Manifest:
    """Writes a version folder.

    Args:
        task: what the model is for.
        model: what to export.
        folder: where to; an earlier export there is replaced.
        formats: of `ALL_FORMATS`; an edge format that fails is left out, see `export.edge`.
        examples: inputs on which each file is compared with Keras.
        model_name: name under which it will be served, for the warm-up requests; the task's
            where None.
        data: data folder that edge formats are calibrated and judged on; None for made-up data.

    Returns:
        The manifest, as written to the folder.

    Raises:
        ParityError: if an exported file does not answer as Keras does; the folder is then left
            without a manifest, for looking into, and cannot be published.
        ValueError: for an unknown task or format, or a folder that holds something else.
    """
    unknown = sorted(set(formats) - set(ALL_FORMATS))
    if unknown or not formats:
        raise ValueError(f"unknown format {unknown}; formats: {', '.join(ALL_FORMATS)}")
    exporter, name = exporter_of(task), model_name or task
    _make_empty(folder)
    if "saved_model" in formats:
        _timed("SavedModel", lambda: exporter.write_saved_model(model, folder))
    exporter.write_assets(model, folder / ASSETS_FOLDER)
    write_warmup(folder / WARMUP_FILE, exporter.warmup_requests(name))
    if "onnx" in formats:
        _timed("ONNX", lambda: exporter.write_onnx(model, folder / ONNX_FILE))
    pipeline = exporter.pipeline_parameters(model)
    _manifest(task, model, name, pipeline).write(folder)  # engines need one to load the folder
    backends = {engine: _backend(engine, folder) for engine in FORMATS if engine in formats}
    try:
        parity = [
            _compared(exporter, model, backend, engine, examples)
            for engine, backend in backends.items()
        ]
    except ParityError:
        (folder / MANIFEST_FILE).unlink()
        raise
    if edge_formats := [name for name in EDGE_FORMATS if name in formats]:
        judge = make_judge(task, model, data)
        parity = [judge.judge(backend, engine) for engine, backend in backends.items()]
        parity += _edge_parity(task, model, folder, edge_formats, data, judge)
    return _manifest(task, model, name, pipeline, parity).write(folder)


def _edge_parity(
    task: str,
    model: TrainedModel,
    folder: Path,
    formats: Sequence[str],
    data: Path | None,
    judge: Judge,
) -> list[Parity]:
    exporter = exporter_of(task)
    images = edge.calibration_of(exporter, model, data)
    with tempfile.TemporaryDirectory() as scratch:
        onnx = folder
        if not (folder / ONNX_FILE).is_file():
            onnx = Path(scratch)
            exporter.write_onnx(model, onnx / ONNX_FILE)
        source = edge.EdgeSource(task, model, folder, onnx, images)
        return edge.write_edge_formats(source, formats, judge).parity


def _make_empty(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / MANIFEST_FILE).is_file():
            raise ValueError(f"{folder} holds something other than an earlier export")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)


def _timed(name: str, write: Callable[[], None]) -> None:
    started = time.perf_counter()
    write()
    logger.info("%s written in %.1f s", name, time.perf_counter() - started)


def _backend(name: str, folder: Path) -> Backend:
    return SavedModelBackend(folder) if name == "saved_model" else OnnxBackend(folder)


def _compared(
    exporter: Exporter,
    model: TrainedModel,
    backend: Backend,
    engine: str,
    examples: Sequence[Any],
) -> Parity:
    parity = exporter.compare(model, backend, engine, examples)
    logger.info(
        "%s agrees with Keras on %d examples: largest difference %.1e, %s %.4f and %.4f",
        engine,
        parity.examples,
        parity.max_difference,
        parity.metric,
        parity.metric_engine,
        parity.metric_keras,
    )
    return parity


def _manifest(
    task: str,
    model: TrainedModel,
    model_name: str,
    pipeline: Mapping[str, Any],
    parity: Sequence[Parity] = (),
) -> Manifest:
    reference = model.details.get("reference")
    return Manifest(
        task=task,
        model_name=model_name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        config=to_dict(model.config),
        data=model.details["data"],
        metrics=model.details["metrics"],
        labels=tuple(model.details["labels"]),
        signatures=CONTRACTS[task].signatures,
        packages={name: importlib.metadata.version(name) for name in RECORDED_PACKAGES},
        parity={p.engine: p.as_dict() for p in parity},
        pipeline=pipeline,
        reference=Reference.from_json(reference) if reference else None,
    )
