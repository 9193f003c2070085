"""The upper limit: a published model in this process, with no server around it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from protocol.contracts import SERVING_DEFAULT
from protocol.pipelines import load_pipelines
from protocol.version_folder import ONNX_FILE, Manifest


class RawModel:
    """Runs texts through the tokenizer and ONNX Runtime on one thread.

    Args:
        folder: Version folder with model.onnx and its assets.
    """

    def __init__(self, folder: Path) -> None:
        self._pipeline = load_pipelines(folder, Manifest.read(folder))[SERVING_DEFAULT]
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(
            folder / ONNX_FILE, options, providers=["CPUExecutionProvider"]
        )

    def run(self, texts: Sequence[str]) -> dict[str, np.ndarray[Any, Any]]:
        """Returns the outputs for a batch of texts."""
        batch = np.array([text.encode() for text in texts], dtype=object)
        prepared = self._pipeline.prepare({"text": batch})
        names = list(self._pipeline.outputs)
        values = self._session.run(names, self._pipeline.merge([prepared]))
        return self._pipeline.finish(dict(zip(names, values, strict=True)), prepared)
