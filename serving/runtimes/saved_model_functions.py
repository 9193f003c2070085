"""Runs the functions of a SavedModel of TensorFlow 2, where a session can not.

Keras 3 saves each variable twice if asked to save a module that holds its layers; a session then
restores one of the two, and the signatures read the other.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from protocol.contracts import SignatureSpec, signature_spec
from protocol.errors import (
    FailedPreconditionError,
    InternalError,
    InvalidTensorError,
    ServiceError,
    error_from_status,
    status_of,
)
from protocol.tensors import to_ndarray
from serving.core.servable import Tensors
from serving.runtimes.pass_through import PassThrough
from serving.runtimes.pipelined import PipelinedServable


class FunctionServable(PipelinedServable):
    """A SavedModel of TensorFlow 2 whose variables a session does not see; see `Servable`."""

    runtime = "TF1"

    def __init__(self, model: Any, definitions: Any) -> None:
        self._model: Any = model
        self._definitions = definitions
        self._functions: dict[str, Any] = dict(model.signatures)
        self._defaults = {
            name: {alias: to_ndarray(value) for alias, value in definition.defaults.items()}
            for name, definition in definitions.signature_def.items()
        }
        specs = (_served_spec(name, definitions.signature_def[name]) for name in model.signatures)
        super().__init__({spec.name: PassThrough(spec) for spec in specs if spec is not None})

    def signature_defs(self) -> Any:
        """See `Servable`."""
        return self._definitions

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
            raise run_error(error) from error

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


def run_error(error: Exception) -> ServiceError:
    """TensorFlow's errors carry the number of their status; others are faults of ours."""
    if isinstance(error, tf.errors.OpError) and (code := status_of(error.error_code)) is not None:
        return error_from_status(code, error.message)
    return InternalError(f"{type(error).__name__}: {error}")
