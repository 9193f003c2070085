"""The pipeline of graphs that do everything themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from protocol.errors import InvalidRequestError
from protocol.pipelines import Prepared, TensorPipeline


class PassThrough(TensorPipeline):
    """Hands tensors to a graph as they come.

    A request whose inputs do not share their first dimension (a scalar among them, say) can not
    be joined with others; it runs alone. Requests of different dtypes are never joined.
    """

    def prepare(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Prepared:
        """See `Pipeline.prepare`."""
        if any(inputs[name].ndim for name in self._parameters & inputs.keys()):
            return _alone(inputs)
        try:
            prepared = super().prepare(inputs)
        except InvalidRequestError:
            return _alone(inputs)
        dtypes = tuple(inputs[name].dtype for name in sorted(inputs))
        return replace(prepared, batch_key=(prepared.batch_key, dtypes))

    def merge(self, items: Sequence[Prepared]) -> dict[str, np.ndarray[Any, Any]]:
        """See `Pipeline.merge`."""
        return items[0].tensors if len(items) == 1 else super().merge(items)


def as_array(fetched: Any) -> np.ndarray[Any, Any]:
    """An array of what an engine gives: scalars come as values."""
    if isinstance(fetched, np.ndarray):
        return fetched
    return np.array(fetched, dtype=object if isinstance(fetched, bytes | str) else None)


def _alone(inputs: Mapping[str, np.ndarray[Any, Any]]) -> Prepared:
    return Prepared(tensors=dict(inputs), rows=1, batch_key=object())
