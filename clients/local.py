"""Answers from a file instead of a server: `model.onnx` or `model.tflite` of a version folder.

    from clients import SentimentClient
    from clients.local import LocalTransport

    with SentimentClient(transport=LocalTransport("sentiment/model.int8.onnx")) as client:
        print(client.classify_one("A joy from start to end.").label)

The folder's `manifest.json` and `assets` have to lie beside the file. Needs onnxruntime or
ai-edge-litert, whichever runs the file, and Pillow where images are files; no TensorFlow and no
network. The steps around the graph, and so the results, are the server's.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy.typing as npt

from clients.calls import Call
from protocol import messages, services
from protocol.contracts import SERVING_DEFAULT, check_inputs, signature_def
from protocol.edge_files import LITERT_SUFFIX, ONNX_SUFFIX, open_onnx, open_tflite, step_file
from protocol.errors import (
    FailedPreconditionError,
    InternalError,
    NotFoundError,
    ServiceError,
    UnimplementedError,
)
from protocol.graphs import Session, SessionGraph, load_pipelines
from protocol.pipelines import Pipeline
from protocol.tensors import to_ndarray, write_tensor
from protocol.version_folder import Manifest

Answer = TypeVar("Answer")
Array = npt.NDArray[Any]

# Suffix -> the module that runs such files, and the package that has it. They are imported when a
# file asks for them: whoever asks a server needs neither.
_ENGINES = {
    ONNX_SUFFIX: ("onnxruntime", "onnxruntime"),
    LITERT_SUFFIX: ("ai_edge_litert.interpreter", "ai-edge-litert"),
}


class LocalTransport:
    """Takes the calls of a client to a file; see `clients.transport.Transport`.

    Args:
        file: `.onnx` or `.tflite`, with manifest and assets beside it.
        threads: Threads within one operation; 0 leaves the choice to the engine.

    Raises:
        NotFoundError: There is no such file.
        FailedPreconditionError: The file is of another kind, or its engine is not installed.
        DataLossError: The manifest, an asset or the file is missing or damaged.
    """

    def __init__(self, file: Path | str, threads: int = 0) -> None:
        self._file = Path(file)
        if not self._file.is_file():
            raise NotFoundError(f"there is no file {file}")
        self._manifest = Manifest.read(self._file.parent)
        engine = _engine(self._file)
        files = [path for path in (self._file, step_file(self._file)) if path.is_file()]
        sessions = [_open(engine, path, self._manifest, threads) for path in dict.fromkeys(files)]
        self._graph = SessionGraph(*sessions)
        self._pipelines = load_pipelines(self._file.parent, self._manifest)

    def send(self, call: Call[Answer], timeout_s: float | None = None) -> Answer:
        """Answers `call`; there is no deadline, for nobody else is waited for.

        Raises:
            InvalidRequestError: The inputs are not those of the model.
            UnimplementedError: A file can not answer such a call.
            InternalError: The graph failed.
        """
        if call.method == services.PREDICT:
            return call.read(self._predict(call.request))
        if call.method == services.GET_MODEL_METADATA:
            return call.read(self._metadata(call.request))
        raise UnimplementedError(f"the file {self._file} can not answer {call.method.name}")

    def close(self) -> None:
        """Does nothing: the file's memory is given back with the transport."""

    def _predict(self, request: Any) -> Any:
        pipeline = self._pipeline(request.model_spec.signature_name or SERVING_DEFAULT)
        inputs = {name: to_ndarray(proto) for name, proto in request.inputs.items()}
        check_inputs(pipeline.spec, inputs)
        outputs = self._run(pipeline, inputs)
        response = messages.PredictResponse()
        response.model_spec.name = self._manifest.model_name
        response.model_spec.signature_name = pipeline.spec.name
        for name in request.output_filter or outputs:
            write_tensor(response.outputs[name], outputs[name])
        return response

    def _run(self, pipeline: Pipeline, inputs: Mapping[str, Array]) -> dict[str, Array]:
        prepared = pipeline.prepare(inputs)
        try:
            outputs = pipeline.run(self._graph, pipeline.merge([prepared]))
        except ServiceError:
            raise
        except Exception as error:
            raise InternalError(f"{self._file} failed: {error}") from error
        return pipeline.finish(outputs, prepared)

    def _pipeline(self, signature: str) -> Pipeline:
        try:
            return self._pipelines[signature]
        except KeyError:
            known = ", ".join(sorted(self._pipelines))
            raise NotFoundError(
                f"{self._file} has no signature {signature!r}; it has: {known}"
            ) from None

    def _metadata(self, request: Any) -> Any:
        specs = {name: signature_def(each.spec) for name, each in self._pipelines.items()}
        response = messages.GetModelMetadataResponse()
        response.model_spec.name = self._manifest.model_name
        signatures = messages.SignatureDefMap(signature_def=specs)
        response.metadata["signature_def"].Pack(signatures)
        return response


def _engine(file: Path) -> Any:
    if file.suffix not in _ENGINES:
        raise FailedPreconditionError(
            f"expected a file ending in {' or '.join(_ENGINES)}, got {file}"
        )
    module, package = _ENGINES[file.suffix]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise FailedPreconditionError(
            f"{file} needs the package {package}, which is not installed: {error}"
        ) from error


def _open(engine: Any, file: Path, manifest: Manifest, threads: int) -> Session:
    try:
        if file.suffix == LITERT_SUFFIX:
            return open_tflite(engine, file, manifest, threads)
        return open_onnx(engine, file, threads)
    except ServiceError:
        raise
    except Exception as error:
        raise FailedPreconditionError(f"{file} can not be loaded: {error}") from error
