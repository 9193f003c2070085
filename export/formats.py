"""The formats a model is exported to: their files, and how far each may be from Keras."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from export import FORMATS
from protocol.edge_files import step_file
from protocol.version_folder import ONNX_FILE, TFLITE_FILE

ONNX_HALF, ONNX_INT8 = "onnx-fp16", "onnx-int8"
LITERT, LITERT_INT8 = "litert", "litert-int8"
EDGE_FORMATS = (ONNX_HALF, ONNX_INT8, LITERT, LITERT_INT8)
ALL_FORMATS = (*FORMATS, *EDGE_FORMATS)

FILES: Mapping[str, str] = MappingProxyType(
    {
        "onnx": ONNX_FILE,
        ONNX_HALF: "model.fp16.onnx",
        ONNX_INT8: "model.int8.onnx",
        LITERT: TFLITE_FILE,
        LITERT_INT8: "model.int8.tflite",
    }
)
"""Format -> its file in a version folder; a translator's step lies beside it."""

REFUSALS_FILE = "refused.json"
"""Format -> why it is not in the version folder."""


class FormatError(RuntimeError):
    """A model can not be written in a format; the message says why."""


@dataclass(frozen=True)
class Gate:
    """How far a file may be from Keras before it is refused.

    Attributes:
        difference: largest `Parity.max_difference`; what it measures, the task's judge says.
        drop: by how much the task metric, 0 to 1, may be lower.
    """

    difference: float
    drop: float


# Largest difference of float32, float16 and int8 files: of a number of an embedding; share of
# detections, pixels or translations that are others; of a probability.
_DIFFERENCES = {
    "face": (1e-3, 5e-3, 0.15),
    "detection": (0.005, 0.02, 0.05),
    "segmentation": (1e-3, 2e-3, 0.02),
    "translation": (0.01, 0.05, 0.35),
    "sentiment": (1e-3, 0.01, 0.15),
}
_DROPS = (0.002, 0.002, 0.01)
_PRECISION = {ONNX_HALF: 1, ONNX_INT8: 2, LITERT_INT8: 2}


def gate_of(task: str, name: str) -> Gate:
    """Returns the gate that a format of a task has to pass."""
    precision = _PRECISION.get(name, 0)
    return Gate(_DIFFERENCES[task][precision], _DROPS[precision])


def format_files(folder: Path, name: str) -> tuple[Path, ...]:
    """Returns the files of a format that are there: the model, and its step where it has one."""
    model = folder / FILES[name]
    return tuple(path for path in (model, step_file(model)) if path.is_file())


def read_refusals(folder: Path) -> dict[str, str]:
    """Reads which formats a version folder lacks, and why."""
    file = folder / REFUSALS_FILE
    refused: dict[str, str] = json.loads(file.read_text()) if file.is_file() else {}
    return refused


def parse_formats(text: str) -> list[str]:
    """Reads names of formats with commas between them, as a command-line argument.

    Raises:
        argparse.ArgumentTypeError: one is unknown.
    """
    names = [name for name in text.split(",") if name]
    unknown = [name for name in names if name not in ALL_FORMATS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(
            f"unknown format {', '.join(unknown) or text!r}; formats: {', '.join(ALL_FORMATS)}"
        )
    return names
