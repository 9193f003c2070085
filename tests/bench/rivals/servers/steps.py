"""A version folder as a function of arrays: the host's steps and ONNX Runtime, no server.

All rivals run this, and so does the raw limit: what differs between them is the serving alone.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from protocol.contracts import SERVING_DEFAULT
from protocol.graphs import SessionGraph, load_pipelines
from protocol.pipelines import answer_alone
from protocol.version_folder import MANIFEST_FILE, Manifest, onnx_files

Array = npt.NDArray[Any]
Steps = Callable[[Mapping[str, Array]], dict[str, Array]]
"""Maps the inputs of N rows to the outputs of N rows."""


def load_steps(folder: Path, threads: int) -> Steps:
    """Loads the signature `serving_default`, or the graph itself where there is no manifest.

    Args:
        folder: version folder with model.onnx and its assets.
        threads: of ONNX Runtime; 0 for one on each core.
    """
    sessions = [_session(path, threads) for path in onnx_files(folder)]
    graph = SessionGraph(*sessions)
    if (folder / MANIFEST_FILE).is_file():
        return partial(
            answer_alone, load_pipelines(folder, Manifest.read(folder))[SERVING_DEFAULT], graph
        )
    names = [node.name for node in sessions[0].get_outputs()]
    return lambda inputs: graph(inputs, names)


def as_column(array: Array) -> Array:
    """Gives an array [N] a second dimension, which some servers demand; [N, ...] stays."""
    return array.reshape(-1, 1) if array.ndim == 1 else array


def as_input(array: Array) -> Array:
    """Turns texts or files [N, 1] into [N], as the pipelines take them; others stay."""
    return array.reshape(-1) if array.dtype == object else array


def joined(arrays: list[Array]) -> Array:
    """Joins the rows of several requests."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # it warns of optional inputs
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
