"""The pipeline of graphs that do everything themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from protocol.errors import InvalidRequestError
from protocol.pipelines import Prepared, TensorPipeline


class PassThrough(TensorPipeline):
    """Hands tensors to a graph as they come.

    A request whose inputs do not share their first dimension (a scalar among them, say) can not
    be joined with others; it runs alone.
    """

    def prepare(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Prepared:
        """See `Pipeline.prepare`."""
        try:
            return super().prepare(inputs)
        except InvalidRequestError:
            return Prepared(tensors=dict(inputs), rows=1, batch_key=object())

    def merge(self, items: Sequence[Prepared]) -> dict[str, np.ndarray[Any, Any]]:
        """See `Pipeline.merge`."""
        return items[0].tensors if len(items) == 1 else super().merge(items)
