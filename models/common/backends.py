"""One trained model behind four engines: Keras, SavedModel, ONNX Runtime, a server over gRPC.

Evaluation and export call them alike, so every engine is measured by the same code.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from protocol.edge_files import open_onnx
from protocol.graphs import Session, SessionGraph, load_pipelines
from protocol.messages import ModelSpec, PredictRequest
from protocol.pipelines import answer_alone
from protocol.services import PREDICT, stub
from protocol.tensors import to_ndarray, to_tensor_proto
from protocol.version_folder import ONNX_FILE, Manifest, onnx_files

Tensors = dict[str, np.ndarray]


class Backend(Protocol):
    """Answers one signature."""

    def run_signature(self, inputs: Mapping[str, np.ndarray]) -> Tensors:
        """Maps the signature's named inputs to its named outputs."""


class SavedModelBackend:
    """A SavedModel, loaded by TensorFlow.

    Args:
        folder: the version folder.
        signature: which of its signatures to call.
    """

    def __init__(self, folder: Path, signature: str = "serving_default") -> None:
        import tensorflow as tf
        from tensorflow.python.saved_model.loader_impl import parse_saved_model

        self._loaded = tf.saved_model.load(str(folder))
        self._function = self._loaded.signatures[signature]
        self._dtypes = {
            name: spec.dtype for name, spec in self._function.structured_input_signature[1].items()
        }
        described = parse_saved_model(str(folder)).meta_graphs[0].signature_def[signature]
        self._defaults = {n: tf.make_ndarray(v) for n, v in described.defaults.items()}

    def run_signature(self, inputs: Mapping[str, np.ndarray]) -> Tensors:
        """Calls the signature's function."""
        import tensorflow as tf

        values = {**self._defaults, **inputs}
        feeds = {name: tf.constant(v, self._dtypes[name]) for name, v in values.items()}
        return {name: value.numpy() for name, value in self._function(**feeds).items()}


class GraphBackend:
    """Graphs in an engine, with the task's host-side steps around them.

    Args:
        folder: the version folder, with its manifest.
        sessions: its opened files, the model's first.
        signature: which of its signatures to answer.
    """

    def __init__(self, folder: Path, sessions: Iterable[Session], signature: str) -> None:
        self._graph = SessionGraph(*sessions)
        self._pipeline = load_pipelines(folder, Manifest.read(folder))[signature]

    def run_signature(self, inputs: Mapping[str, np.ndarray]) -> Tensors:
        """Prepares, runs and finishes one request."""
        return answer_alone(self._pipeline, self._graph, inputs)


class OnnxBackend(GraphBackend):
    """`model.onnx` in ONNX Runtime.

    Args:
        folder: the version folder, with its manifest.
        signature: which of its signatures to answer.
        file: the ONNX file within the folder; `step.onnx` comes with it where there is one.
    """

    def __init__(
        self, folder: Path, signature: str = "serving_default", file: str = ONNX_FILE
    ) -> None:
        import onnxruntime

        sessions = [open_onnx(onnxruntime, path) for path in onnx_files(folder, file)]
        super().__init__(folder, sessions, signature)


class GrpcBackend:
    """A running server, TensorFlow Serving or the embedded one.

    Args:
        target: host:port.
        model: served model name.
        signature: which of its signatures to call.
        timeout_s: deadline of each call.
    """

    def __init__(
        self, target: str, model: str, signature: str = "serving_default", timeout_s: float = 60.0
    ) -> None:
        import grpc

        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._predict = stub(grpc.insecure_channel(target, unlimited), PREDICT)
        self._spec = ModelSpec(name=model, signature_name=signature)
        self._timeout_s = timeout_s

    def run_signature(self, inputs: Mapping[str, np.ndarray]) -> Tensors:
        """Sends one Predict call."""
        request = PredictRequest(model_spec=self._spec)
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(to_tensor_proto(value))
        response = self._predict(request, timeout=self._timeout_s)
        return {name: to_ndarray(proto) for name, proto in response.outputs.items()}


BACKENDS = ("keras", "saved_model", "onnx", "grpc")


def newest_version(repository: Path, model: str) -> Path:
    """Returns the folder of the highest version of `model`.

    Raises:
        FileNotFoundError: if the repository holds none; the message says how to make one.
    """
    folder = repository / model
    versions = [p for p in folder.iterdir() if p.name.isdigit()] if folder.is_dir() else []
    if not versions:
        raise FileNotFoundError(
            f"{folder} holds no version; run `make publish MODEL={model}` first"
        )
    return max(versions, key=lambda path: int(path.name))
