"""What the servables of all engines share: each signature is a pipeline around a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from protocol.contracts import SignatureSpec, check_inputs
from protocol.pipelines import Pipeline, Prepared
from serving.core.servable import Tensors


class PipelinedServable:
    """A servable but for its graph, see `Servable`; engines add `run`, `signature_defs`, `close`.

    Args:
        pipelines: By signature.
    """

    runs_inline: bool | None = None

    def __init__(self, pipelines: Mapping[str, Pipeline]) -> None:
        self._pipelines = dict(pipelines)
        self.signatures: Mapping[str, SignatureSpec] = {
            name: pipeline.spec for name, pipeline in pipelines.items()
        }

    def prepares_slowly(self, signature: str) -> bool:
        """See `Servable`."""
        return self._pipelines[signature].prepares_slowly

    def check(self, signature: str, inputs: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Checks a request's inputs; what is left to the graph, engines leave out.

        Raises:
            ContractError: Names, dtypes or shapes do not fit the signature.
        """
        check_inputs(self.signatures[signature], inputs)

    def prepare(self, signature: str, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Prepared:
        """See `Servable`."""
        self.check(signature, inputs)
        return self._pipelines[signature].prepare(inputs)

    def merge(self, signature: str, items: Sequence[Prepared]) -> Tensors:
        """See `Servable`."""
        return self._pipelines[signature].merge(items)

    def finish(
        self, signature: str, outputs: Mapping[str, np.ndarray[Any, Any]], prepared: Prepared
    ) -> Tensors:
        """See `Servable`."""
        return self._pipelines[signature].finish(outputs, prepared)

    def warmed_up(self) -> None:
        """See `Servable`; nothing was taken that can be given back."""
