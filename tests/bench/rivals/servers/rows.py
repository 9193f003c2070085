"""A model for servers that speak JSON: rows as base64 texts, in and out."""

import base64
from collections.abc import Sequence
from pathlib import Path

from job import Job
from raw_tensors import from_raw, to_raw
from steps import as_column, as_input, joined, load_steps


class RowModel:
    """Answers rows: each the bytes of the input's values, and then of all outputs'."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._run = load_steps(Path(job.folder), job.threads)

    def __call__(self, rows: Sequence[str]) -> list[str]:
        """Runs a batch."""
        wanted = self._job.input
        arrays = [from_raw(base64.b64decode(row), wanted.dtype, (1, *wanted.shape)) for row in rows]
        found = self._run({wanted.name: as_input(joined(arrays))})
        outputs = [as_column(found[output.name]) for output in self._job.outputs]
        return [
            base64.b64encode(b"".join(to_raw(array[row]) for array in outputs)).decode()
            for row in range(len(rows))
        ]
