"""What is measured: the small models and those of a repository, with one request for each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from clients.demo.repository import published_models
from protocol.version_folder import Manifest
from tests.bench import small_models
from tests.bench.raw_model import request_inputs
from tests.bench.rivals.servers.job import Tensor
from tests.bench.rivals.servers.steps import as_column, load_steps
from tests.bench.workloads import workloads

Outputs = Mapping[str, np.ndarray[Any, Any]]

CONCURRENCIES = (1, 8, 32, 64)
THREADS = 1


@dataclass(frozen=True)
class Subject:
    """A model to measure.

    Attributes:
        name: it is served under.
        title: what it is and what is sent.
        folder: its version folder.
        inputs: the one input of the one request, by name: one row.
        concurrencies: how many requests at once.
        raw_batches: rows at once in the raw engines, ascending.
    """

    name: str
    title: str
    folder: Path
    inputs: Outputs
    concurrencies: tuple[int, ...]
    raw_batches: tuple[int, ...]

    @property
    def repository(self) -> Path:
        """The folder that holds the model's folder."""
        return self.folder.parent.parent

    @cached_property
    def answer(self) -> Outputs:
        """What the raw model answers."""
        return load_steps(self.folder, THREADS)(self.inputs)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """The outputs as rivals declare them."""
        return tuple(_described(name, array) for name, array in self.answer.items())

    @property
    def input(self) -> Tensor:
        """The input as rivals declare it."""
        ((name, array),) = self.inputs.items()
        return _described(name, array)


def small_subjects(names: Sequence[str], folder: Path) -> Iterator[Subject]:
    """Writes small models and yields them.

    Args:
        names: which.
        folder: where to write the repository.
    """
    titles = {
        small_models.LIGHT: "`light`: embedding, GRU of 32, dense; one int32 [64] a request",
        small_models.EMBEDDER: "`embedder`: MobileNetV2, 128 numbers; one float32 [112, 112, 3]",
    }
    concurrencies = {small_models.LIGHT: CONCURRENCIES, small_models.EMBEDDER: (1, 8)}
    for name in names:
        version = folder / name / "1"
        version.mkdir(parents=True)
        small_models.WRITERS[name](version)
        batches = tuple(size for size in concurrencies[name] if size <= 32)
        yield Subject(
            name, titles[name], version, small_models.request(name), concurrencies[name], batches
        )


def published_subjects(names: Sequence[str], repository: Path) -> Iterator[Subject]:
    """Yields published models; each is sent the first text or sample image of its load tests.

    Raises:
        SystemExit: a model is not published.
    """
    found = {model.name: model.version for model in published_models(repository)}
    for name in names:
        if name not in found:
            raise SystemExit(f"error: no model {name!r} in {repository}; run `make published`")
        folder = repository / name / str(found[name])
        workload = workloads(Manifest.read(folder).task, folder)[0]
        item = workload.items[0]
        size = len(item.encode() if isinstance(item, str) else item)
        what = "one text" if isinstance(item, str) else "one image file"
        yield Subject(
            name=name,
            title=f"`{name}`: {what} of {size:,} bytes a request",
            folder=folder.resolve(),
            inputs={workload.input: request_inputs(workload, [item])[workload.input]},
            concurrencies=CONCURRENCIES,
            raw_batches=(1, 8),
        )


def _described(name: str, array: np.ndarray[Any, Any]) -> Tensor:
    return Tensor(name, str(array.dtype), as_column(array).shape[1:])
