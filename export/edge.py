"""Edge formats of a version folder: each is written, run, judged against Keras, and then counts.

A file that fails is deleted, and `refused.json` in the folder says why; the others stay.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from export import litert_modules, litert_translation
from export.engines import FileBackend
from export.formats import (
    FILES,
    LITERT,
    ONNX_HALF,
    REFUSALS_FILE,
    FormatError,
    Gate,
    format_files,
    gate_of,
)
from export.half import write_half
from export.int8 import quantize_weights
from export.int8_static import write_static_int8
from export.judges import Judge, check_gate
from export.litert import write_litert, write_litert_dynamic, write_litert_int8
from export.parity import Parity, ParityError
from models.common.data_dir import data_dir
from protocol.edge_files import step_file
from protocol.version_folder import ONNX_FILE, onnx_files

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EdgeSource:
    """What edge files are made of.

    Attributes:
        task: what the model is for.
        model: the Keras model.
        folder: version folder with manifest and assets.
        onnx: folder with the float32 ONNX graphs.
        images: what static int8 is calibrated on, uint8 [H, W, 3]; none for texts.
        gates: format -> gate, for those that are not the task's own.
    """

    task: str
    model: Any
    folder: Path
    onnx: Path
    images: Sequence[np.ndarray]
    gates: dict[str, Gate] = field(default_factory=dict)


@dataclass(frozen=True)
class EdgeReport:
    """What became of edge formats.

    Attributes:
        parity: of each that counts.
        refused: format -> why it does not.
    """

    parity: list[Parity]
    refused: dict[str, str]


def write_edge_formats(source: EdgeSource, formats: Sequence[str], judge: Judge) -> EdgeReport:
    """Writes formats into a version folder, and deletes those that fail.

    Args:
        source: what they are made of.
        formats: of `EDGE_FORMATS`.
        judge: compares each with Keras.
    """
    report = EdgeReport([], {})
    for name in formats:
        try:
            _write(source, name)
            parity = judge.judge(FileBackend(source.folder, name), name)
            check_gate(parity, source.gates.get(name) or gate_of(source.task, name))
        except (FormatError, ParityError, ValueError) as error:
            _delete(source.folder, name)
            report.refused[name] = str(error)
            logger.warning("%s is refused: %s", name, error)
            continue
        report.parity.append(parity)
        _log(parity)
    _record_refusals(source.folder, report.refused)
    return report


def known_data(model: Any) -> Path | None:
    """Returns the first data set that a model was trained on and that is at hand."""
    folders = (data_dir() / name for name in model.details["data"])
    return next((folder for folder in folders if folder.is_dir()), None)


def calibration_of(exporter: Any, model: Any, data: Path | None) -> list[np.ndarray]:
    """Returns images, uint8 [H, W, 3], of a data folder, else made-up ones; none for texts."""
    if not hasattr(exporter, "calibration_images"):
        return []
    if data is None:
        logger.warning("no data set at hand: int8 is calibrated and judged on made-up images")
        return list(exporter.sample_images(model))
    return list(exporter.calibration_images(data, model))


def _write(source: EdgeSource, name: str) -> None:
    writer = _write_litert if name.startswith(LITERT) else _write_onnx
    writer(source, name)


def _write_onnx(source: EdgeSource, name: str) -> None:
    target = source.folder / FILES[name]
    for graph in onnx_files(source.onnx):
        path = target if graph.name == ONNX_FILE else step_file(target)
        if name == ONNX_HALF:
            write_half(graph, path)
        elif source.images:
            write_static_int8(graph, path, source.images)
        else:
            quantize_weights(graph, path)


def _write_litert(source: EdgeSource, name: str) -> None:
    path = source.folder / FILES[name]
    for module, target in _litert_modules(source, path):
        if name == LITERT:
            write_litert(module, target)
        elif source.images:
            options = dict(getattr(source.model, "defaults", {}))
            write_litert_int8(module, target, source.images, options)
        else:
            write_litert_dynamic(module, target)


def _litert_modules(source: EdgeSource, path: Path) -> Iterator[tuple[Any, Path]]:
    """Yields what to write, and where."""
    task, model = source.task, source.model
    if task == "translation":
        yield litert_translation.encoder_module(model), path
        yield litert_translation.step_module(model), step_file(path)
    else:
        yield _LITERT_MODULES[task](model), path


def _delete(folder: Path, name: str) -> None:
    for path in format_files(folder, name):
        path.unlink()


def _record_refusals(folder: Path, refused: dict[str, str]) -> None:
    if refused:
        text = json.dumps(refused, indent=2, ensure_ascii=False)
        (folder / REFUSALS_FILE).write_text(text + "\n", encoding="utf-8")


def _log(parity: Parity) -> None:
    logger.info(
        "%s counts: differs from Keras by %.2g on %d examples, %s %.4f and %.4f",
        parity.engine,
        parity.max_difference,
        parity.examples,
        parity.metric,
        parity.metric_engine,
        parity.metric_keras,
    )


_LITERT_MODULES: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "face": litert_modules.face_module,
        "detection": litert_modules.detection_module,
        "segmentation": litert_modules.segmentation_module,
        "sentiment": litert_modules.sentiment_module,
    }
)
