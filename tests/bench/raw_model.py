"""The upper limits: a published model in this process, with no server around it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort

from models.common.backends import SavedModelBackend
from protocol.contracts import SERVING_DEFAULT
from protocol.graphs import SessionGraph, load_pipelines
from protocol.version_folder import SAVED_MODEL_FILE, Manifest, onnx_files
from tests.bench.workloads import Workload

Outputs = dict[str, np.ndarray[Any, Any]]


class RawModel(Protocol):
    """One engine in this process."""

    name: str

    def run(self, items: Sequence[Any]) -> Outputs:
        """Returns the outputs for a batch of texts or image files."""


class RawOnnx:
    """The host's steps and ONNX Runtime, as in the embedded server.

    Args:
        folder: Version folder with model.onnx and its assets.
        workload: Gives the input's name and the number of threads.
    """

    name = "raw ONNX Runtime"

    def __init__(self, folder: Path, workload: Workload) -> None:
        self._pipeline = load_pipelines(folder, Manifest.read(folder))[SERVING_DEFAULT]
        self._input = workload.input
        options = ort.SessionOptions()
        options.intra_op_num_threads = workload.raw_threads
        options.inter_op_num_threads = 1
        sessions = [
            ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            for path in onnx_files(folder)
        ]
        self._graph = SessionGraph(*sessions)

    def run(self, items: Sequence[Any]) -> Outputs:
        """See `RawModel.run`."""
        prepared = self._pipeline.prepare({self._input: byte_strings(items)})
        outputs = self._pipeline.run(self._graph, self._pipeline.merge([prepared]))
        return self._pipeline.finish(outputs, prepared)


class RawSavedModel:
    """The SavedModel's signature, called by TensorFlow on all cores.

    Args:
        folder: Version folder with saved_model.pb.
        workload: Gives the input's name.
    """

    name = "raw SavedModel"

    def __init__(self, folder: Path, workload: Workload) -> None:
        self._backend = SavedModelBackend(folder)
        self._input = workload.input

    def run(self, items: Sequence[Any]) -> Outputs:
        """See `RawModel.run`."""
        return self._backend.run_signature({self._input: byte_strings(items)})


def raw_models(folder: Path, workload: Workload) -> list[RawModel]:
    """Loads the engines for which the version folder has a file; ONNX comes first."""
    models: list[RawModel] = [RawOnnx(folder, workload)]
    if (folder / SAVED_MODEL_FILE).is_file():
        models.append(RawSavedModel(folder, workload))
    return models


def byte_strings(items: Sequence[Any]) -> np.ndarray[Any, Any]:
    """Packs texts or files as a string tensor, object [N] of bytes."""
    packed = np.empty(len(items), dtype=object)
    for row, item in enumerate(items):
        packed[row] = item.encode() if isinstance(item, str) else item
    return packed
