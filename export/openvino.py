"""OpenVINO in the place of ONNX Runtime, for comparison; `make export-table` installs it."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.formats import format_files
from models.common.backends import GraphBackend
from protocol.litert_session import Node
from protocol.pipelines import Array


class OpenVinoSession:
    """An ONNX graph that OpenVINO runs on the CPU, as a `Session`.

    Args:
        path: the file.
        threads: threads of a run.
    """

    def __init__(self, path: Path, threads: int) -> None:
        openvino = importlib.import_module("openvino")
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # its own choice may be bfloat16
        }
        compiled = openvino.Core().compile_model(str(path), "CPU", settings)
        self._request: Any = compiled.create_infer_request()
        self._inputs = [port.any_name for port in compiled.inputs]
        self._outputs = [port.any_name for port in compiled.outputs]

    def get_inputs(self) -> Sequence[Node]:
        """The graph's inputs."""
        return [Node(name) for name in self._inputs]

    def get_outputs(self) -> Sequence[Node]:
        """The graph's outputs."""
        return [Node(name) for name in self._outputs]

    def run(
        self, output_names: Sequence[str], input_feed: Mapping[str, Array], run_options: Any = None
    ) -> Sequence[Array]:
        """Computes the named outputs."""
        self._request.infer(dict(input_feed))
        # Copies: the next run writes to the same memory.
        return [np.array(self._request.get_tensor(name).data) for name in output_names]


class OpenVinoBackend(GraphBackend):
    """One ONNX format of a version folder in OpenVINO; see `engines.FileBackend`."""

    def __init__(self, folder: Path, name: str, threads: int, signature: str) -> None:
        sessions = [OpenVinoSession(path, threads) for path in format_files(folder, name)]
        super().__init__(folder, sessions, signature)
