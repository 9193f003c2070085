"""Runs `model.onnx` in ONNX Runtime, with what the host does around it.

The host tokenises, decodes images or, with `step.onnx` at its side, searches for translations.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from protocol import version_folder
from protocol.contracts import (
    SERVING_DEFAULT,
    TENSORS,
    SignatureSpec,
    TensorSpec,
    signature_def,
)
from protocol.errors import (
    ContractError,
    DataLossError,
    FailedPreconditionError,
    InternalError,
    InvalidRequestError,
    ResourceExhaustedError,
    ServiceError,
)
from protocol.graphs import SessionGraph, load_pipelines, missing_outputs
from protocol.messages import SignatureDefMap
from protocol.pipelines import Pipeline, Prepared
from protocol.version_folder import Manifest, ServingTuning
from serving.core.processors import USABLE_PROCESSORS
from serving.core.servable import Tensors
from serving.runtimes.pass_through import PassThrough
from serving.runtimes.pipelined import PipelinedServable

log = logging.getLogger(__name__)

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
    "tensor(string)": "string",
}

_FATAL = 4
_ERRORS_OF_THE_GRAPH = ("InvalidArgument", "RuntimeException", "Fail")


class OnnxRuntime:
    """Loads version folders that hold a `model.onnx`.

    Args:
        intra_op_threads: Threads within one operation; 0 leaves the choice to the tuning in the
            manifest, else to ONNX Runtime.
        inter_op_threads: Operations run at once; 0 runs them one after the other.
    """

    def __init__(self, intra_op_threads: int = 0, inter_op_threads: int = 0) -> None:
        self._intra_op_threads = intra_op_threads
        self._inter_op_threads = inter_op_threads

    def load(self, folder: Path, manifest: Manifest | None) -> OnnxServable:
        """See `Runtime.load`."""
        tuning = manifest.tuning if manifest is not None else None
        threads = self._intra_op_threads or _tuned_threads(tuning)
        files = version_folder.onnx_files(folder)
        sessions = {path.name: self._open(path, threads) for path in files}
        pipelines = load_pipelines(folder, manifest) if manifest is not None else {}
        tensors = session_signature(sessions[version_folder.ONNX_FILE], TENSORS)
        if not pipelines:
            default = replace(tensors, name=SERVING_DEFAULT)
            pipelines = {spec.name: UnknownGraph(spec) for spec in (default, tensors)}
        for pipeline in pipelines.values():
            _check_fetches(pipeline, sessions, folder)
        graph = SessionGraph(*sessions.values())
        graph.run_options = _giving_memory_back()
        return OnnxServable(graph, pipelines, tuning.runs_inline if tuning is not None else None)

    def _open(self, path: Path, threads: int) -> onnxruntime.InferenceSession:
        # `export.tuning` measures with the same options.
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = self._inter_op_threads
        if self._inter_op_threads > 1:
            options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
        # Spinning threads would take the processor from the event loop.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        options.log_severity_level = _FATAL
        try:
            return onnxruntime.InferenceSession(str(path), options, providers=_local_providers())
        except Exception as error:
            raise DataLossError(f"ONNX Runtime can not load {path}: {error}") from error


class UnknownGraph(PassThrough):
    """Hands tensors to an ONNX graph that we did not export.

    An input without elements is refused: some operators of ONNX Runtime, LSTM among them, end the
    whole process on one. Our own exports guard themselves.
    """

    def prepare(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Prepared:
        """See `Pipeline.prepare`."""
        for name, array in inputs.items():
            if array.size == 0:
                raise InvalidRequestError(
                    f"Input {name} has the shape {list(array.shape)} and no elements; this ONNX "
                    "graph takes inputs with at least one"
                )
        return super().prepare(inputs)


class OnnxServable(PipelinedServable):
    """One loaded ONNX version; see `Servable`.

    Attributes:
        runs_inline: Whether a run of one request is so short that the event loop does it itself;
            None where that shows while it serves.
    """

    runtime = "ONNX"

    def __init__(
        self,
        graph: SessionGraph,
        pipelines: Mapping[str, Pipeline],
        runs_inline: bool | None = None,
    ) -> None:
        super().__init__(pipelines)
        self.runs_inline = runs_inline
        self._graph: SessionGraph | None = graph

    def signature_defs(self) -> Any:
        """See `Servable`."""
        described = {name: signature_def(spec) for name, spec in self.signatures.items()}
        return SignatureDefMap(signature_def=described)

    def run(self, signature: str, tensors: Mapping[str, np.ndarray[Any, Any]]) -> Tensors:
        """See `Servable`."""
        graph = self._graph
        if graph is None:
            raise FailedPreconditionError("The version was unloaded")
        try:
            return self._pipelines[signature].run(graph, tensors)
        except ServiceError:
            raise
        except Exception as error:
            raise _run_error(error) from error

    def warmed_up(self) -> None:
        """See `Servable`: from now on memory is kept from run to run, which is faster."""
        if self._graph is not None:
            self._graph.run_options = None

    def close(self) -> None:
        """See `Servable`."""
        self._graph = None


def _tuned_threads(tuning: ServingTuning | None) -> int:
    """No more than may run at once: the tuning may come from a larger machine.

    ONNX Runtime's own choice, 0, counts the machine's processors, also in a container with fewer.
    """
    if tuning is not None:
        return min(tuning.intra_op_threads, USABLE_PROCESSORS)
    return USABLE_PROCESSORS if (os.cpu_count() or 1) > USABLE_PROCESSORS else 0


def _giving_memory_back() -> onnxruntime.RunOptions:
    """Options of a run that leaves no more memory behind than the graph holds."""
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _local_providers() -> list[str]:
    """The engines of this machine, best first; not those that send tensors elsewhere."""
    return [name for name in onnxruntime.get_available_providers() if "Azure" not in name]


def session_signature(session: onnxruntime.InferenceSession, name: str) -> SignatureSpec:
    """Describes a session's inputs and outputs as a signature.

    Raises:
        ContractError: A tensor has a type that can not be served.
    """
    return SignatureSpec(
        name,
        inputs=tuple(map(_tensor_spec, session.get_inputs())),
        outputs=tuple(map(_tensor_spec, session.get_outputs())),
    )


def _tensor_spec(node: Any) -> TensorSpec:
    if node.type not in _DTYPES:
        raise ContractError(f"Tensor {node.name} has the type {node.type}, which is not served")
    shape = tuple(size if isinstance(size, int) else None for size in node.shape or ())
    return TensorSpec(node.name, _DTYPES[node.type], shape)


def _check_fetches(
    pipeline: Pipeline, sessions: Mapping[str, onnxruntime.InferenceSession], folder: Path
) -> None:
    available = [node.name for session in sessions.values() for node in session.get_outputs()]
    missing = missing_outputs(pipeline.outputs, available)
    if missing:
        raise ContractError(
            f"{' and '.join(sessions)} in {folder} lacks the outputs {sorted(missing)} that "
            f"signature {pipeline.spec.name} needs; it has {available}"
        )


def _run_error(error: Exception) -> ServiceError:
    message = str(error)
    if "allocate memory" in message or "bad_alloc" in message:
        return ResourceExhaustedError(f"Not enough memory for this request: {message}")
    if type(error).__name__ in _ERRORS_OF_THE_GRAPH:
        return InvalidRequestError(f"The graph can not run these inputs: {message}")
    return InternalError(f"{type(error).__name__}: {message}")
