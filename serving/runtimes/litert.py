"""Runs `model.tflite` in LiteRT, on a few interpreters that take turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Full, LifoQueue
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from protocol import version_folder
from protocol.contracts import (
    SERVING_DEFAULT,
    SignatureSpec,
    TensorSpec,
    check_input_dtypes,
    check_input_names,
    signature_def,
)
from protocol.errors import (
    ContractError,
    DataLossError,
    FailedPreconditionError,
    InvalidRequestError,
    InvalidTensorError,
    ServiceError,
)
from protocol.messages import SignatureDefMap
from protocol.tensors import data_type, dtype_name
from protocol.version_folder import Manifest
from serving.core.servable import Tensors
from serving.runtimes.litert_signatures import read_signature_defs
from serving.runtimes.pass_through import PassThrough, as_array
from serving.runtimes.pipelined import PipelinedServable


class LiteRtRuntime:
    """Loads version folders that hold a `model.tflite`.

    Args:
        interpreters: Interpreters of a version that are kept for its next runs.
        threads: Threads within one operation.
    """

    def __init__(self, interpreters: int = 1, threads: int = 1) -> None:
        self._interpreters = max(interpreters, 1)
        self._threads = max(threads, 1)

    def load(self, folder: Path, manifest: Manifest | None) -> LiteRtServable:
        """See `Runtime.load`."""
        path = folder / version_folder.TFLITE_FILE
        try:
            pool = InterpreterPool(path, self._interpreters, self._threads)
            return LiteRtServable(pool, read_signature_defs(path))
        except ServiceError:
            raise
        except Exception as error:
            raise DataLossError(f"LiteRT can not load {path}: {error}") from error


class InterpreterPool:
    """Interpreters of one file; a run takes one, and makes one if none is free.

    Args:
        path: The file.
        kept: How many wait for the next run; those beyond are given up after theirs.
        threads: Threads within one operation.
    """

    def __init__(self, path: Path, kept: int, threads: int) -> None:
        self._path = path
        self._threads = threads
        self._free: LifoQueue[Interpreter] = LifoQueue(kept)

    def take(self) -> Interpreter:
        """Takes a free interpreter, or makes one."""
        try:
            return self._free.get_nowait()
        except Empty:
            made = Interpreter(model_path=str(self._path), num_threads=self._threads)
            made.allocate_tensors()
            return made

    def put_back(self, interpreter: Interpreter) -> None:
        """Keeps an interpreter for the next run, unless enough are kept."""
        try:
            self._free.put_nowait(interpreter)
        except Full:
            return


class LiteRtServable(PipelinedServable):
    """One loaded LiteRT version; see `Servable`.

    Its signatures are those that TensorFlow Serving's tools wrote into the file, else those of the
    converter. A file without any has one, `serving_default`, whose aliases are its tensors' names.
    """

    runtime = "TFLite"

    def __init__(self, pool: InterpreterPool, definitions: Mapping[str, Any]) -> None:
        self._pool: InterpreterPool | None = pool
        first = pool.take()
        self._served = {each.spec.name: each for each in _served_signatures(first, definitions)}
        pool.put_back(first)
        super().__init__({name: PassThrough(each.spec) for name, each in self._served.items()})

    def signature_defs(self) -> Any:
        """See `Servable`."""
        described = {name: signature_def(spec) for name, spec in self.signatures.items()}
        return SignatureDefMap(signature_def=described)

    def check(self, signature: str, inputs: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """See `PipelinedServable`; interpreters are resized to the shapes that come."""
        spec = self.signatures[signature]
        check_input_names(spec, inputs)
        check_input_dtypes(spec, inputs)

    def run(self, signature: str, tensors: Mapping[str, np.ndarray[Any, Any]]) -> Tensors:
        """See `Servable`."""
        pool = self._pool
        if pool is None:
            raise FailedPreconditionError("The version was unloaded")
        interpreter = pool.take()
        try:
            outputs = self._served[signature].run(interpreter, tensors)
        except (ValueError, RuntimeError) as error:
            # The interpreter goes: a run that failed may have left its tensors in disorder.
            raise InvalidRequestError(f"The graph can not run these inputs: {error}") from error
        pool.put_back(interpreter)
        return outputs

    def close(self) -> None:
        """See `Servable`."""
        self._pool = None


@dataclass(frozen=True)
class _ConvertedSignature:
    """A signature that the converter wrote; the interpreter knows it."""

    spec: SignatureSpec

    def run(self, interpreter: Interpreter, tensors: Mapping[str, Any]) -> Tensors:
        outputs = interpreter.get_signature_runner(self.spec.name)(**tensors)
        return {alias: as_array(value) for alias, value in outputs.items()}


@dataclass(frozen=True)
class _NamedSignature:
    """A signature over the names of the file's tensors.

    Attributes:
        spec: What callers see.
        inputs: Number of each input's tensor, by alias.
        outputs: Number of each output's tensor, by alias.
    """

    spec: SignatureSpec
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]

    def run(self, interpreter: Interpreter, tensors: Mapping[str, Any]) -> Tensors:
        for alias, array in tensors.items():
            interpreter.resize_tensor_input(self.inputs[alias], array.shape)
        interpreter.allocate_tensors()
        for alias, array in tensors.items():
            interpreter.set_tensor(self.inputs[alias], array)
        interpreter.invoke()
        return {
            alias: as_array(interpreter.get_tensor(index)) for alias, index in self.outputs.items()
        }


def _served_signatures(
    interpreter: Interpreter, definitions: Mapping[str, Any]
) -> list[_NamedSignature | _ConvertedSignature]:
    if definitions:
        return [_defined(interpreter, *item) for item in definitions.items()]
    converted = interpreter.get_signature_list()
    if not converted:
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        return [_named(SERVING_DEFAULT, _by_name(inputs), _by_name(outputs))]
    runners = {name: interpreter.get_signature_runner(name) for name in converted}
    return [
        _ConvertedSignature(_spec(name, runner.get_input_details(), runner.get_output_details()))
        for name, runner in runners.items()
    ]


def _defined(interpreter: Interpreter, name: str, definition: Any) -> _NamedSignature:
    inputs = _by_name(interpreter.get_input_details())
    outputs = _by_name(interpreter.get_output_details())
    return _named(
        name,
        {alias: _find(inputs, info.name) for alias, info in definition.inputs.items()},
        {alias: _find(outputs, info.name) for alias, info in definition.outputs.items()},
    )


def _find(details: Mapping[str, Any], name: str) -> Any:
    """The details of a tensor; a name of TensorFlow's ends in `:0`, which the file may lack.

    Raises:
        ContractError: There is no such tensor.
    """
    for candidate in (name, name.removesuffix(":0")):
        if candidate in details:
            return details[candidate]
    raise ContractError(f"There is no tensor {name}; tensors: {', '.join(sorted(details))}")


def _named(name: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> _NamedSignature:
    return _NamedSignature(
        _spec(name, inputs, outputs),
        inputs={alias: details["index"] for alias, details in inputs.items()},
        outputs={alias: details["index"] for alias, details in outputs.items()},
    )


def _by_name(listed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {details["name"]: details for details in listed}


def _spec(name: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> SignatureSpec:
    return SignatureSpec(
        name,
        inputs=tuple(_tensor_spec(alias, inputs[alias]) for alias in sorted(inputs)),
        outputs=tuple(_tensor_spec(alias, outputs[alias]) for alias in sorted(outputs)),
    )


def _tensor_spec(alias: str, details: Mapping[str, Any]) -> TensorSpec:
    """The spec of a tensor.

    Raises:
        ContractError: The tensor has a type that can not be served.
    """
    try:
        dtype = dtype_name(data_type(details["dtype"]))
    except InvalidTensorError as error:
        raise ContractError(f"Tensor {alias} can not be served: {error}") from error
    shape = tuple(None if size < 0 else int(size) for size in details["shape_signature"])
    return TensorSpec(alias, dtype, shape)
