"""Runs a SavedModel in TensorFlow, which is imported when the first such version is loaded."""

from __future__ import annotations

import gc
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.python.saved_model.loader_impl import parse_saved_model

from protocol.contracts import SignatureSpec, check_inputs, signature_spec
from protocol.errors import (
    DataLossError,
    FailedPreconditionError,
    InternalError,
    InvalidTensorError,
    NotFoundError,
    ServiceError,
    error_from_status,
)
from protocol.messages import SignatureDef, SignatureDefMap
from protocol.pipelines import Prepared
from protocol.tensors import to_ndarray
from protocol.version_folder import Manifest
from serving.core.servable import Tensors
from serving.runtimes.pass_through import PassThrough

log = logging.getLogger(__name__)


class SavedModelRuntime:
    """Loads version folders that hold a SavedModel.

    Args:
        tags: Tags of the graph to load.
        intra_op_threads: Threads within one operation; 0 leaves the choice to TensorFlow.
        inter_op_threads: Operations run at once; 0 leaves the choice to TensorFlow.
    """

    def __init__(
        self, tags: Sequence[str], intra_op_threads: int = 0, inter_op_threads: int = 0
    ) -> None:
        self._tags = list(tags)
        try:
            if intra_op_threads:
                tf.config.threading.set_intra_op_parallelism_threads(intra_op_threads)
            if inter_op_threads:
                tf.config.threading.set_inter_op_parallelism_threads(inter_op_threads)
        except RuntimeError as error:
            log.warning("TensorFlow runs already, its threads stay as they are: %s", error)

    def load(self, folder: Path, manifest: Manifest | None) -> SavedModelServable:
        """See `Runtime.load`."""
        definitions = self._signature_defs(folder)
        try:
            model = tf.saved_model.load(str(folder), tags=self._tags)
        except Exception as error:
            raise DataLossError(f"TensorFlow can not load {folder}: {error}") from error
        return SavedModelServable(model, definitions)

    def _signature_defs(self, folder: Path) -> Any:
        """The signatures exactly as the file tells them, as a `SignatureDefMap`."""
        try:
            graphs = parse_saved_model(str(folder)).meta_graphs
        except Exception as error:
            raise DataLossError(f"Can not read the SavedModel in {folder}: {error}") from error
        for graph in graphs:
            if set(graph.meta_info_def.tags) == set(self._tags):
                described = SignatureDefMap()
                for name, definition in graph.signature_def.items():
                    parsed = SignatureDef.FromString(definition.SerializeToString())
                    described.signature_def[name].CopyFrom(parsed)
                return described
        found = [sorted(graph.meta_info_def.tags) for graph in graphs]
        raise NotFoundError(
            f"No graph with the tags {sorted(self._tags)} in {folder}; tags found: {found}"
        )


class SavedModelServable:
    """One loaded SavedModel version; see `Servable`."""

    runtime = "TF1"

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
