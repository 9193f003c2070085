"""Engines that run an exported file, as backends: ONNX Runtime and LiteRT.

The host-side steps around them are those of the server and of local clients.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from export.formats import FILES, format_files
from models.common.backends import Tensors
from protocol.graphs import Session, SessionGraph, load_pipelines
from protocol.litert_session import LiteRtSession, default_inputs
from protocol.version_folder import Manifest


class FileBackend:
    """One format of a version folder, in the engine that is made for it.

    Args:
        folder: the version folder, with its manifest.
        name: the format, of `FILES`.
        threads: threads within one operation; 0 leaves the choice to the engine.
        signature: which of its signatures to answer.

    Raises:
        FileNotFoundError: the folder has no such file.
        ValueError: the engine can not load it.
    """

    def __init__(
        self, folder: Path, name: str, threads: int = 0, signature: str = "serving_default"
    ) -> None:
        manifest = Manifest.read(folder)
        files = format_files(folder, name)
        if not files:
            raise FileNotFoundError(f"{folder / FILES[name]} is not there")
        self.graph = SessionGraph(*(open_file(path, manifest, threads) for path in files))
        self.pipeline = load_pipelines(folder, manifest)[signature]

    def run_signature(self, inputs: Mapping[str, np.ndarray]) -> Tensors:
        """Prepares, runs and finishes one request."""
        prepared = self.pipeline.prepare(inputs)
        outputs = self.pipeline.run(self.graph, self.pipeline.merge([prepared]))
        return self.pipeline.finish(outputs, prepared)


def open_file(path: Path, manifest: Manifest, threads: int = 0) -> Session:
    """Opens a `.onnx` or `.tflite` file.

    Raises:
        ValueError: the engine can not load it.
    """
    open_one = open_tflite if path.suffix == ".tflite" else open_onnx
    try:
        return open_one(path, manifest, threads)
    except Exception as error:
        raise ValueError(f"{path} can not be loaded: {error}") from error


def open_onnx(path: Path, manifest: Manifest, threads: int) -> Session:
    """Opens a graph in ONNX Runtime, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # it warns of optional inputs
    session: Session = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )
    return session


def open_tflite(path: Path, manifest: Manifest, threads: int) -> Session:
    """Opens a file in LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_path=str(path), num_threads=threads or None)
    return LiteRtSession(interpreter, default_inputs(manifest), manifest.labels)
