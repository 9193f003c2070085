"""The shape of a run: requests cut into parts, padded to one shape, filled up to a good size.

TensorFlow Serving calls these large batch splitting, variable length padding and allowed batch
sizes. They look at tensors only: what has a first dimension has a row for each row of its
request, and a scalar is a parameter of the whole run.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from protocol.pipelines import Prepared
from serving.core.servable import Tensors

Array = np.ndarray[Any, Any]

_MOST_PADDED_DIMENSIONS = 6


class Whole:
    """A request that runs in parts, and the outputs of those that have run.

    Parts may run in several threads at once.
    """

    def __init__(self, item: Prepared, parts: int) -> None:
        self.item = item
        self._outputs: list[Mapping[str, Array] | None] = [None] * parts
        self._lock = threading.Lock()

    def add(self, place: int, outputs: Mapping[str, Array]) -> Tensors | None:
        """Keeps the raw outputs of a part.

        Returns:
            The outputs of all parts joined by their rows; None while one is missing.
        """
        with self._lock:
            self._outputs[place] = outputs
            ready = [each for each in self._outputs if each is not None]
        if len(ready) < len(self._outputs):
            return None
        return {name: np.concatenate([each[name] for each in ready]) for name in outputs}


@dataclass(slots=True)
class Part(Prepared):
    """Some rows of a request that is too large for one run.

    Attributes:
        whole: The request.
        place: Its number among the parts.
    """

    whole: Whole = field(kw_only=True)
    place: int = field(kw_only=True)


def has_rows(item: Prepared) -> bool:
    """Whether all tensors of a request but its parameters have a row for each of its rows."""
    return all(array.ndim == 0 or len(array) == item.rows for array in item.tensors.values())


def split(item: Prepared, most: int) -> list[Part]:
    """Cuts a request into parts of `most` rows; the last may be smaller.

    Args:
        item: A request that `has_rows`.
        most: Rows of a part.
    """
    starts = range(0, item.rows, most)
    whole = Whole(item, len(starts))
    return [
        Part(
            tensors=_rows(item.tensors, start, start + most),
            rows=min(most, item.rows - start),
            batch_key=item.batch_key,
            is_plain=item.is_plain,
            whole=whole,
            place=place,
        )
        for place, start in enumerate(starts)
    ]


def _rows(tensors: Mapping[str, Array], start: int, stop: int) -> Tensors:
    return {name: array[start:stop] if array.ndim else array for name, array in tensors.items()}


def fill_up(tensors: Mapping[str, Array], row: int, count: int) -> Tensors:
    """Repeats a row `count` times after the last one; {name: (N, ...)} -> {name: (N + count, ...)}.

    Args:
        tensors: Merged tensors of one run; scalars stay as they are.
        row: The row to repeat.
        count: How often.
    """
    return {
        name: np.concatenate([array, np.repeat(array[row : row + 1], count, axis=0)])
        if array.ndim
        else array
        for name, array in tensors.items()
    }


def ragged_key(item: Prepared) -> Hashable:
    """A batch key for requests whose tensors may be padded to one shape.

    Requests of equal names, dtypes, ranks and parameters share it. Those that can not be padded
    keep their own key.
    """
    arrays = item.tensors
    if not item.is_plain or any(array.ndim > _MOST_PADDED_DIMENSIONS for array in arrays.values()):
        return item.batch_key
    return tuple(
        (name, array.dtype, array.ndim if array.ndim else array.item())
        for name, array in sorted(arrays.items())
    )


def pad_alike(items: Sequence[Prepared]) -> list[Prepared]:
    """Pads the tensors of several requests at the end of each dimension but the first.

    As in TensorFlow Serving a tensor is padded with its own first element.

    Args:
        items: Requests of one `ragged_key`.

    Returns:
        The requests, each tensor as large as the largest of its name.
    """
    sizes = {
        name: tuple(map(max, zip(*(item.tensors[name].shape[1:] for item in items), strict=True)))
        for name in items[0].tensors
    }
    return [_grown(item, sizes) for item in items]


def _grown(item: Prepared, sizes: Mapping[str, tuple[int, ...]]) -> Prepared:
    tensors = {name: _padded(array, sizes[name]) for name, array in item.tensors.items()}
    return replace(item, tensors=tensors)


def _padded(array: Array, sizes: tuple[int, ...]) -> Array:
    if array.shape[1:] == sizes:
        return array
    nothing: Any = b"" if array.dtype == object else 0
    padded = np.full(
        (len(array), *sizes), array.flat[0] if array.size else nothing, dtype=array.dtype
    )
    padded[tuple(map(slice, array.shape))] = array
    return padded
