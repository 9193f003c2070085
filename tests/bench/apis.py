"""The three ways to ask a server for the same: TensorFlow Serving's Predict, V2's ModelInfer, JSON.

Each builds one request once, and reads an answer so that it can be compared with the raw model's.
"""

import base64
import json
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import grpc
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from protocol.messages import PredictRequest, PredictResponse
from protocol.services import PREDICT
from protocol.tensors import to_ndarray, to_tensor_proto
from serving.faces.http2.messages import framed
from tests.bench.rivals.servers.job import Tensor
from tests.bench.rivals.servers.raw_tensors import DATATYPES, DTYPES, from_raw, to_raw
from tests.bench.rivals.servers.steps import as_column

Outputs = Mapping[str, np.ndarray[Any, Any]]

_PREFIX_BYTES = 5
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_PROTO = Path(__file__).parent / "v2_inference.proto"
_MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
_ROWS_PATH = "/predict"
_TOLERANCE = 2e-3


@dataclass(frozen=True)
class Call:
    """One request, ready to be sent again and again.

    Attributes:
        path: of the method or resource.
        body: with gRPC's prefix, if it is gRPC.
        headers: as h2load takes them.
        is_grpc: HTTP/2 and gRPC; else HTTP/1.1.
    """

    path: str
    body: bytes
    headers: tuple[str, ...]
    is_grpc: bool

    @property
    def message(self) -> bytes:
        """The body without gRPC's prefix."""
        return self.body[_PREFIX_BYTES:] if self.is_grpc else self.body


class Api(Protocol):
    """A way to ask."""

    def call(self, model: str, inputs: Outputs) -> Call:
        """Builds the request of one row."""

    def read(self, answer: bytes, outputs: Sequence[Tensor]) -> Outputs:
        """Reads the body of an answer, without gRPC's prefix.

        Args:
            answer: what the server sent.
            outputs: what it should hold, in order; the shapes are those of this row.
        """


class PredictApi:
    """TensorFlow Serving's Predict over gRPC."""

    def call(self, model: str, inputs: Outputs) -> Call:
        """See `Api`."""
        request = PredictRequest()
        request.model_spec.name = model
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(to_tensor_proto(array))
        return _grpc_call(PREDICT.path, request)

    def read(self, answer: bytes, outputs: Sequence[Tensor]) -> Outputs:
        """See `Api`."""
        response = PredictResponse.FromString(answer)
        return {name: to_ndarray(tensor) for name, tensor in response.outputs.items()}


class ModelInferApi:
    """The V2 inference protocol over gRPC, with the values as raw bytes."""

    def call(self, model: str, inputs: Outputs) -> Call:
        """See `Api`; texts and files have the shape [1, 1]."""
        request = _v2_message("ModelInferRequest")(model_name=model)
        for name, array in inputs.items():
            column = as_column(array)
            datatype = DATATYPES[str(column.dtype)]
            request.inputs.add(name=name, datatype=datatype, shape=column.shape)
            request.raw_input_contents.append(to_raw(column))
        return _grpc_call(_MODEL_INFER, request)

    def read(self, answer: bytes, outputs: Sequence[Tensor]) -> Outputs:
        """See `Api`."""
        response = _v2_message("ModelInferResponse").FromString(answer)
        pairs = zip(response.outputs, response.raw_output_contents, strict=True)
        return {
            tensor.name: from_raw(data, DTYPES[tensor.datatype], tuple(tensor.shape))
            for tensor, data in pairs
        }


class RowsApi:
    """JSON over HTTP/1.1: the bytes of a row as base64 text, as `rows.RowModel` takes them."""

    def call(self, model: str, inputs: Outputs) -> Call:
        """See `Api`."""
        (array,) = inputs.values()
        row = base64.b64encode(to_raw(array)).decode()
        body = json.dumps({"rows": [row]}).encode()
        return Call(_ROWS_PATH, body, ("content-type: application/json",), is_grpc=False)

    def read(self, answer: bytes, outputs: Sequence[Tensor]) -> Outputs:
        """See `Api`."""
        document = json.loads(answer)
        (row,) = document["rows"] if isinstance(document, dict) else document
        data, found = base64.b64decode(row), {}
        for output in outputs:
            size = _raw_size(data, output)
            found[output.name] = from_raw(data[:size], output.dtype, (1, *output.shape))
            data = data[size:]
        return found


def ask(port: int, call: Call, timeout_s: float) -> bytes:
    """Sends a request once.

    Returns:
        The body of the answer, without gRPC's prefix.

    Raises:
        OSError: the server is not there, or refuses.
        grpc.RpcError: likewise.
    """
    if call.is_grpc:
        with grpc.insecure_channel(f"127.0.0.1:{port}", _UNLIMITED) as channel:
            answer: bytes = channel.unary_unary(call.path)(call.message, timeout=timeout_s)
            return answer
    headers = dict(line.split(": ", 1) for line in call.headers)
    request = urllib.request.Request(f"http://127.0.0.1:{port}{call.path}", call.body, headers)
    with urllib.request.urlopen(request, timeout=timeout_s) as response:
        body: bytes = response.read()
        return body


def answer_size(call: Call, answer: bytes) -> int:
    """Returns how many bytes of data come over the line for an answer."""
    return len(answer) + _PREFIX_BYTES * call.is_grpc


def difference(expected: Outputs, found: Outputs) -> str:
    """Says what is wrong with an answer; nothing if it is right."""
    if expected.keys() != found.keys():
        return f"expected the outputs {sorted(expected)}, got {sorted(found)}"
    for name, values in expected.items():
        wanted, got = as_column(values), as_column(found[name])
        if wanted.shape != got.shape:
            return f"{name}: expected the shape {wanted.shape}, got {got.shape}"
        if not _equal(wanted, got):
            return f"{name}: other values than the raw model's"
    return ""


def _equal(wanted: Any, got: Any) -> bool:
    if wanted.dtype.kind == "f":
        return bool(np.allclose(wanted, got, rtol=_TOLERANCE, atol=_TOLERANCE))
    return bool(np.array_equal(wanted, got))


def _raw_size(data: bytes, output: Tensor) -> int:
    """Returns how many of the first bytes are one row of an output."""
    elements = int(np.prod(output.shape, dtype=int))
    if output.dtype != "object":
        return elements * np.dtype(output.dtype).itemsize
    place = 0
    for _ in range(elements):
        place += 4 + int.from_bytes(data[place : place + 4], "little")
    return place


def _grpc_call(path: str, request: Any) -> Call:
    headers = ("content-type: application/grpc", "te: trailers")
    return Call(path, framed(request.SerializeToString()), headers, is_grpc=True)


@cache
def _v2_message(name: str) -> Any:
    found = _v2_pool().FindMessageTypeByName(f"inference.{name}")
    return message_factory.GetMessageClass(found)


@cache
def _v2_pool() -> descriptor_pool.DescriptorPool:
    """Compiles the protocol, in a process of its own: protoc and TensorFlow cannot share one."""
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "descriptors"
        command = [
            *(sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={_PROTO.parent}"),
            f"--descriptor_set_out={compiled}",
            _PROTO.name,
        ]
        subprocess.run(command, check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool
