"""Runs a SavedModel in TensorFlow, which is imported when the first such version is loaded.

A version is a graph and a session, of TensorFlow 1 or 2 alike, and is run as TensorFlow Serving
runs it: names are checked against the signature, everything else is left to the graph, and its
errors are passed on word for word.
"""

from __future__ import annotations

import gc
import logging
import socket
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.client import pywrap_tf_session
from tensorflow.python.saved_model.loader_impl import SavedModelLoader, parse_saved_model

from protocol.contracts import SignatureSpec, check_input_names, signature_spec
from protocol.errors import (
    DataLossError,
    FailedPreconditionError,
    InvalidTensorError,
    NotFoundError,
)
from protocol.messages import SignatureDef, SignatureDefMap
from protocol.tensors import to_ndarray
from protocol.version_folder import Manifest
from serving.core.servable import Tensors
from serving.core.work_time import working_elsewhere
from serving.runtimes.pass_through import PassThrough, as_array
from serving.runtimes.pipelined import PipelinedServable
from serving.runtimes.saved_model_functions import FunctionServable, run_error

log = logging.getLogger(__name__)

# Types of TensorFlow 1's variables: that of their value, plus this.
_REFERENCE = 100
# Runs that take less processor time than this stay in one thread.
_SHORT_S = 1e-3
# Runs on TensorFlow's threads after one that was not short: at first, and at most.
_FEWEST_RUNS, _MOST_RUNS = 16, 4096
_IN_ONE_THREAD = pywrap_tf_session.TF_NewBufferFromString(
    tf.compat.v1.RunOptions(inter_op_thread_pool=-1).SerializeToString()
)


@cache
def start_profiler() -> str:
    """Starts TensorFlow's profiler on a free port, once in a process.

    Returns:
        Its address.
    """
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    tf.profiler.experimental.server.start(port)
    return f"localhost:{port}"


class SavedModelRuntime:
    """Loads version folders that hold a SavedModel.

    Args:
        tags: Tags of the graph to load.
        intra_op_threads: Threads within one operation; 0 leaves the choice to TensorFlow.
        inter_op_threads: Operations run at once; 0 leaves the choice to TensorFlow.
    """

    def __init__(
        self,
        tags: Sequence[str],
        intra_op_threads: int = 0,
        inter_op_threads: int = 0,
        gpu_memory_fraction: float = 0.0,
    ) -> None:
        self._tags = [tag for tag in tags if tag]
        self._config = tf.compat.v1.ConfigProto(
            allow_soft_placement=True,
            intra_op_parallelism_threads=intra_op_threads,
            inter_op_parallelism_threads=inter_op_threads,
        )
        self._config.gpu_options.allow_growth = True
        self._config.gpu_options.per_process_gpu_memory_fraction = gpu_memory_fraction

    def load(
        self, folder: Path, manifest: Manifest | None
    ) -> SavedModelServable | FunctionServable:
        """See `Runtime.load`."""
        definitions = self._signature_defs(folder)
        graph = tf.Graph()
        session = tf.compat.v1.Session(graph=graph, config=self._config)
        try:
            with graph.as_default():
                SavedModelLoader(str(folder)).load(session, self._tags)
            # Runs go past `Session.run`, which would do this.
            session._extend_graph()
        except Exception as error:
            session.close()
            raise DataLossError(f"TensorFlow can not load {folder}: {error}") from error
        if _has_all_variables(session):
            return SavedModelServable(session, definitions)
        session.close()
        try:
            model = tf.saved_model.load(str(folder), tags=self._tags)
        except Exception as error:
            raise DataLossError(f"TensorFlow can not load {folder}: {error}") from error
        return FunctionServable(model, definitions)

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
            "Could not find meta graph def matching supplied tags: "
            f"{{ {' '.join(sorted(self._tags))} }} in {folder}; tags found: {found}"
        )


def _has_all_variables(session: Any) -> bool:
    """Whether the session sees the values of all resource variables."""
    graph = session.graph
    handles = [each.outputs[0] for each in graph.get_operations() if each.type == "VarHandleOp"]
    if not handles:
        return True
    with graph.as_default():
        there = [tf.raw_ops.VarIsInitializedOp(resource=handle) for handle in handles]
    found = session.run(there)
    session._extend_graph()
    return all(found)


class SavedModelServable(PipelinedServable):
    """One loaded SavedModel version; see `Servable`."""

    runtime = "TF1"

    def __init__(self, session: Any, definitions: Any) -> None:
        self._session: Any = session
        self._definitions = definitions
        self._served = {
            name: _ServedSignature(session.graph, spec, definition)
            for name, definition in definitions.signature_def.items()
            if (spec := _served_spec(session.graph, name, definition)) is not None
        }
        super().__init__({name: served.pipeline for name, served in self._served.items()})

    def signature_defs(self) -> Any:
        """See `Servable`."""
        return self._definitions

    def check(self, signature: str, inputs: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """See `PipelinedServable`; dtypes and shapes are the graph's business."""
        feed_names = self._served[signature].feed_names
        check_input_names(self.signatures[signature], inputs, feed_names)

    def run(self, signature: str, tensors: Mapping[str, np.ndarray[Any, Any]]) -> Tensors:
        """See `Servable`."""
        session = self._session
        if session is None:
            raise FailedPreconditionError("The version was unloaded")
        try:
            return self._served[signature].run(session, tensors)
        except Exception as error:
            raise run_error(error) from error

    def close(self) -> None:
        """See `Servable`."""
        session, self._session = self._session, None
        if session is not None:
            session.close()
        gc.collect()


class _ServedSignature:
    """One signature, with its tensors in the graph."""

    def __init__(self, graph: Any, spec: SignatureSpec, definition: Any) -> None:
        self.pipeline = PassThrough(spec)
        self.feed_names = {alias: info.name for alias, info in definition.inputs.items()}
        self._feeds = {alias: _output(graph, name) for alias, name in self.feed_names.items()}
        self._fetches = [_output(graph, definition.outputs[name].name) for name in self._names]
        self._defaults = {alias: to_ndarray(value) for alias, value in definition.defaults.items()}
        self._quantised = {
            tensor.name: tf.as_dtype(tensor.dtype).as_numpy_dtype
            for tensor in spec.inputs
            if tensor.dtype.startswith("q")
        }
        self._runs_on_threads = 0
        self._next_runs_on_threads = _FEWEST_RUNS

    @property
    def _names(self) -> tuple[str, ...]:
        return self.pipeline.outputs

    def run(self, session: Any, tensors: Mapping[str, np.ndarray[Any, Any]]) -> Tensors:
        """Runs the graph.

        The operations of short runs stay in the calling thread: handing them to TensorFlow's
        threads takes several times as long as a small model. After a run that was not short many
        go to TensorFlow's threads, until one is tried in the calling thread again.
        """
        given = {**self._defaults, **tensors}
        feeds = {self._feeds[name]: self._fed(name, array) for name, array in given.items()}
        if self._runs_on_threads > 0:
            self._runs_on_threads -= 1
            with working_elsewhere():
                fetched = self._fetch(session, feeds, None)
        else:
            fetched = self._fetch_in_one_thread(session, feeds)
        return dict(zip(self._names, map(_plain, fetched), strict=True))

    def _fetch_in_one_thread(self, session: Any, feeds: Mapping[Any, Any]) -> list[Any]:
        started = time.thread_time()
        fetched = self._fetch(session, feeds, _IN_ONE_THREAD)
        if time.thread_time() - started < _SHORT_S:
            self._next_runs_on_threads = _FEWEST_RUNS
        else:
            self._runs_on_threads = self._next_runs_on_threads
            self._next_runs_on_threads = min(2 * self._next_runs_on_threads, _MOST_RUNS)
        return fetched

    def _fetch(self, session: Any, feeds: Mapping[Any, Any], options: Any) -> list[Any]:
        fetched: list[Any] = pywrap_tf_session.TF_SessionRun_wrapper(
            session._session, options, feeds, self._fetches, [], None
        )
        return fetched

    def _fed(self, name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return array.view(self._quantised[name]) if name in self._quantised else array


def _output(graph: Any, name: str) -> Any:
    return graph.get_tensor_by_name(name)._as_tf_output()


def _plain(fetched: Any) -> np.ndarray[Any, Any]:
    """An array of what a session gives; quantised values become their integers."""
    array = as_array(fetched)
    return array.view(array.dtype[0]) if array.dtype.names else array


def _served_spec(graph: Any, name: str, definition: Any) -> SignatureSpec | None:
    """The signature as a spec; None if a tensor can not travel, or is not in the graph."""
    plain = SignatureDef()
    plain.CopyFrom(definition)
    try:
        for info in (*plain.inputs.values(), *plain.outputs.values()):
            graph.get_tensor_by_name(info.name)
            info.dtype %= _REFERENCE
        return signature_spec(name, plain)
    except (InvalidTensorError, KeyError, ValueError) as error:
        if not name.startswith("__"):
            log.warning("The signature %s is left out: %s", name, error)
        return None
