"""The model of Triton's Python backend; Triton looks for the name of the class."""

import os
import sys
from pathlib import Path
from typing import Any

sys.path.extend(os.environ["PYTHONPATH"].split(":"))  # Triton's own Python ignores it

import triton_python_backend_utils as triton
from job import this_job
from steps import as_column, as_input, joined, load_steps


class TritonPythonModel:
    """Runs the requests that Triton has joined."""

    def initialize(self, arguments: dict[str, str]) -> None:
        """Loads the model."""
        self._job = this_job()
        self._run = load_steps(Path(self._job.folder), self._job.threads)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Runs all requests at once and gives each its rows."""
        name = self._job.input.name
        inputs = [triton.get_input_tensor_by_name(each, name).as_numpy() for each in requests]
        found = self._run({name: as_input(joined(inputs))})
        outputs = {each.name: as_column(found[each.name]) for each in self._job.outputs}
        answers, start = [], 0
        for rows in map(len, inputs):
            answers.append(_answer(outputs, slice(start, start + rows)))
            start += rows
        return answers


def _answer(outputs: dict[str, Any], rows: slice) -> Any:
    return triton.InferenceResponse(
        [triton.Tensor(name, array[rows]) for name, array in outputs.items()]
    )
