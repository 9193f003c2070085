"""A LiteRT interpreter in the place of an ONNX Runtime session.

`SessionGraph` and the pipelines around it then run a `.tflite` file as they run a `.onnx` one.
The interpreter is handed in, so nothing here imports LiteRT.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from protocol.errors import FailedPreconditionError
from protocol.pipelines import Array
from protocol.version_folder import Manifest


class Runner(Protocol):
    """What of an interpreter's signature runner is used here."""

    def __call__(self, **inputs: Array) -> Mapping[str, Array]:
        """Computes all outputs."""

    def get_input_details(self) -> Mapping[str, Mapping[str, Any]]:
        """Describes the inputs by name."""

    def get_output_details(self) -> Mapping[str, Mapping[str, Any]]:
        """Describes the outputs by name."""


class Interpreter(Protocol):
    """What of `ai_edge_litert.interpreter.Interpreter` is used here."""

    def get_signature_list(self) -> Mapping[str, Any]:
        """The signatures by name."""

    def get_signature_runner(self, signature_key: str) -> Runner:
        """What runs one of them."""


@dataclass(frozen=True)
class Node:
    """An input or output, as ONNX Runtime describes them.

    Attributes:
        name: of it.
        type: never `tensor(string)`: strings stay outside of these files.
    """

    name: str
    type: str = "tensor"


class LiteRtSession:
    """The one signature of a file as a `Session`; an input that takes one row is run row by row.

    Args:
        interpreter: of the file, with its tensors allocated.
        defaults: values of inputs that a run leaves out.
        labels: names of the classes; with them, a file with an output `class_ids` has another,
            `labels`. Id -1 has the empty name.

    Raises:
        FailedPreconditionError: the file has not exactly one signature.
    """

    def __init__(
        self,
        interpreter: Interpreter,
        defaults: Mapping[str, Array] | None = None,
        labels: Sequence[str] | None = None,
    ) -> None:
        signatures = list(interpreter.get_signature_list())
        if len(signatures) != 1:
            raise FailedPreconditionError(f"expected a file with one signature, got {signatures}")
        self._interpreter = interpreter  # the runner does not keep it alive
        self._runner = interpreter.get_signature_runner(signatures[0])
        details = self._runner.get_input_details()
        self._inputs = tuple(details)
        self._by_row = frozenset(
            name for name, input_ in details.items() if tuple(input_["shape_signature"])[:1] == (1,)
        )
        self._outputs = tuple(self._runner.get_output_details())
        self._defaults = dict(defaults or {})
        self._names: Array | None = None
        if labels and "class_ids" in self._outputs:
            self._names = np.array([*labels, ""], dtype=object)

    def get_inputs(self) -> Sequence[Node]:
        """The signature's inputs."""
        return [Node(name) for name in self._inputs]

    def get_outputs(self) -> Sequence[Node]:
        """The signature's outputs, and `labels` where they are added."""
        added = () if self._names is None else ("labels",)
        return [Node(name) for name in (*self._outputs, *added)]

    def run(
        self, output_names: Sequence[str], input_feed: Mapping[str, Array], run_options: Any = None
    ) -> Sequence[Array]:
        """Computes the named outputs; `run_options` are ONNX Runtime's and mean nothing here."""
        feeds = {**self._defaults, **input_feed}
        feeds = {name: feeds[name] for name in self._inputs}
        rows = self._rows(feeds)
        found = self._runner(**feeds) if rows in (None, 1) else self._each_row(feeds, rows)
        if self._names is not None:
            found = {**found, "labels": self._names[found["class_ids"]]}
        return [found[name] for name in output_names]

    def _rows(self, feeds: Mapping[str, Array]) -> int | None:
        return next((len(feeds[name]) for name in self._by_row), None)

    def _each_row(self, feeds: Mapping[str, Array], rows: int) -> dict[str, Array]:
        # Without any row, one of zeros tells the shapes.
        answers = [self._row(feeds, row) for row in range(rows)] or [self._blank(feeds)]
        names = answers[0]
        return {name: np.concatenate([each[name] for each in answers])[:rows] for name in names}

    def _row(self, feeds: Mapping[str, Array], row: int) -> dict[str, Array]:
        mine = {n: v[row : row + 1] if n in self._by_row else v for n, v in feeds.items()}
        return {name: np.array(value) for name, value in self._runner(**mine).items()}

    def _blank(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        blank = {
            name: np.zeros((1, *(max(size, 1) for size in value.shape[1:])), value.dtype)
            if name in self._by_row
            else value
            for name, value in feeds.items()
        }
        return dict(self._runner(**blank))


def default_inputs(manifest: Manifest) -> dict[str, Array]:
    """Returns the values of optional inputs, which LiteRT files do not know."""
    optional = {
        tensor.name for spec in manifest.signatures for tensor in spec.inputs if tensor.optional
    }
    return {
        name: np.array(value, np.float32)
        for name, value in manifest.pipeline.items()
        if name in optional and isinstance(value, float)
    }
