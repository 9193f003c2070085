"""Files that answer without a server: where what belongs to one of them lies.

A file of a version folder, `model.onnx`, `model.int8.onnx` or `model.tflite`, may be taken
elsewhere together with the folder's manifest and assets. A translator is two files: the step of
`model.int8.onnx` is `step.int8.onnx`.

Engines are handed in, so nothing here imports one.
"""

from pathlib import Path
from typing import Any

from protocol.graphs import Session
from protocol.litert_session import LiteRtSession, default_inputs
from protocol.version_folder import Manifest

ONNX_SUFFIX, LITERT_SUFFIX = ".onnx", ".tflite"

_MODEL, _STEP = "model", "step"


def step_file(model: Path) -> Path:
    """Returns where the step of a translator's file would be."""
    return model.with_name(model.name.replace(_MODEL, _STEP, 1))


def open_onnx(onnxruntime: Any, file: Path, threads: int = 0) -> Session:
    """Opens an ONNX file on the CPU.

    Args:
        onnxruntime: the module.
        file: ends in `ONNX_SUFFIX`.
        threads: threads within one operation; 0 leaves the choice to the engine.

    Raises:
        Exception: what the engine raises for a file that it can not load.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # it warns of optional inputs
    session: Session = onnxruntime.InferenceSession(
        str(file), options, providers=["CPUExecutionProvider"]
    )
    return session


def open_tflite(interpreter: Any, file: Path, manifest: Manifest, threads: int = 0) -> Session:
    """Opens a LiteRT file.

    Args:
        interpreter: the module `ai_edge_litert.interpreter`.
        file: ends in `LITERT_SUFFIX`.
        manifest: of the version; it knows the classes, and the values of optional inputs.
        threads: as for `open_onnx`.

    Raises:
        Exception: what the engine raises for a file that it can not load.
    """
    opened = interpreter.Interpreter(model_path=str(file), num_threads=threads or None)
    return LiteRtSession(opened, default_inputs(manifest), manifest.labels)
