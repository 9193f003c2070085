"""Runs the functions of a SavedModel of TensorFlow 2, where a session can not.

Keras 3 saves each variable twice if asked to save a module that holds its layers; a session then
restores one of the two, and the signatures read the other.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import numpy as np
import tensorflow as tf

from protocol.contracts import SignatureSpec, check_inputs, signature_spec
from protocol.errors import (
    FailedPreconditionError,
    InternalError,
    InvalidTensorError,
    ServiceError,
    error_from_status,
)
from protocol.pipelines import Prepared
from protocol.tensors import to_ndarray
from serving.core.servable import Tensors
from serving.runtimes.pass_through import PassThrough


class FunctionServable:
    """A SavedModel of TensorFlow 2 whose variables a session does not see; see `Servable`."""

    runtime = "TF1"
    runs_inline = None

    def __init__(self, model: Any, definitions: Any) -> None:
        self._model: Any = model
        self._definitions = definitions
        self._functions: dict[str, Any] = dict(model.signatures)
        self._defaults = {
            name: {alias: to_ndarray(value) for alias, value in definition.defaults.items()}
            for name, definition in definitions.signature_def.items()
        }
        self._pipelines = {
            name: PassThrough(spec)
            for name in self._functions
            if (spec := _served_spec(name, definitions.signature_def[name])) is not None
        }
        self.signatures: Mapping[str, SignatureSpec] = {
            name: pipeline.spec for name, pipeline in self._pipelines.items()
        }

    def signature_defs(self) -> Any:
        """See `Servable`."""
        return self._definitions

    def prepares_slowly(self, signature: str) -> bool:
        """See `Servable`; all steps are in the graph."""
        return False

    def prepare(self, signature: str, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Prepared:
        """See `Servable`."""
        pipeline = self._pipelines[signature]
        check_inputs(pipeline.spec, inputs)
        return pipeline.prepare(inputs)

    def merge(self, signature: str, items: Sequence[Prepared]) -> Tensors:
        """See `Servable`."""
        return self._pipelines[signature].merge(items)

    def run(self, signature: str, tensors: Mapping[str, np.ndarray[Any, Any]]) -> Tensors:
        """See `Servable`."""
        function = self._functions.get(signature)
        if function is None:
            raise FailedPreconditionError("The version was unloaded")
        feeds = {**self._defaults[signature], **tensors}
        try:
            outputs = function(**{name: tf.constant(array) for name, array in feeds.items()})
            return {name: value.numpy() for name, value in outputs.items()}
        except Exception as error:
            raise _run_error(error) from error

    def finish(
        self, signature: str, outputs: Mapping[str, np.ndarray[Any, Any]], prepared: Prepared
    ) -> Tensors:
        """See `Servable`."""
        return self._pipelines[signature].finish(outputs, prepared)

    def warmed_up(self) -> None:
        """See `Servable`; nothing was taken that can be given back."""

    def close(self) -> None:
        """See `Servable`."""
        self._functions.clear()
        self._model = None
        gc.collect()


def _served_spec(name: str, definition: Any) -> SignatureSpec | None:
    """The signature as a spec; None if a tensor has a type that can not travel."""
    try:
        return signature_spec(name, definition)
    except InvalidTensorError:
        return None


def _run_error(error: Exception) -> ServiceError:
    """TensorFlow's errors carry the number of their status; others are faults of ours."""
    for code in grpc.StatusCode:
        if isinstance(error, tf.errors.OpError) and code.value[0] == error.error_code:
            return error_from_status(code, error.message)
    return InternalError(f"{type(error).__name__}: {error}")
