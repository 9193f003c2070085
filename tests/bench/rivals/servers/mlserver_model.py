"""The model of MLServer, which joins requests before it calls it."""

from pathlib import Path
from typing import Any

import numpy as np
from job import this_job
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse, RequestInput, ResponseOutput
from raw_tensors import DATATYPES
from steps import as_column, as_input, load_steps


class BenchModel(MLModel):
    """Runs the requests that MLServer has joined."""

    async def load(self) -> bool:
        """Loads the model."""
        self._job = this_job()
        self._run = load_steps(Path(self._job.folder), self._job.threads)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Runs the model, in the event loop as MLServer's own runtimes do."""
        found = self._run({self._job.input.name: as_input(_array(payload.inputs[0]))})
        outputs = [
            _output(output.name, as_column(found[output.name])) for output in self._job.outputs
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)


def _array(tensor: RequestInput) -> Any:
    if tensor.datatype != "BYTES":
        return NumpyCodec.decode_input(tensor)
    items = np.empty(tensor.shape, dtype=object)
    items.flat[:] = list(tensor.data)
    return items


def _output(name: str, array: Any) -> ResponseOutput:
    if array.dtype != object:
        return NumpyCodec.encode_output(name, array)
    return ResponseOutput(
        name=name,
        shape=list(array.shape),
        datatype=DATATYPES[str(array.dtype)],
        data=list(array.flat),
    )
