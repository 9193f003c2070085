"""Tensors as plain bytes, the way the V2 inference protocol carries them: values, row by row.

An element of dtype BYTES is its length (four bytes, little endian) and its bytes.
"""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "int32": "INT32",
    "int64": "INT64",
    "float32": "FP32",
    "object": "BYTES",
}
"""The protocol's names of numpy's dtypes."""
DTYPES = {datatype: np.dtype(name) for name, datatype in DATATYPES.items()}

_LENGTH = struct.Struct("<I")


def to_raw(array: Array) -> bytes:
    """Returns the bytes of an array's values."""
    if array.dtype != object:
        return array.tobytes()
    return b"".join(_LENGTH.pack(len(item)) + item for item in array.flat)


def from_raw(data: bytes, dtype: Any, shape: tuple[int, ...]) -> Array:
    """Reads what `to_raw` wrote."""
    if np.dtype(dtype) != object:
        return np.frombuffer(data, dtype).reshape(shape)
    array = np.empty(shape, dtype=object)
    array.flat[:] = list(_elements(data))
    return array


def _elements(data: bytes) -> Iterator[bytes]:
    place = 0
    while place < len(data):
        (size,) = _LENGTH.unpack_from(data, place)
        place += _LENGTH.size
        yield data[place : place + size]
        place += size
