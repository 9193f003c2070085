"""PredictRequest and PredictResponse without message objects: bytes to arrays and back.

What fills a large request or response is the memory of its arrays. Here it is neither copied nor
turned into objects on the way; the message classes do whatever is rare. Nothing is accepted that
they would refuse, and nothing is written that they would read otherwise.

Source: Protocol Buffers, "Encoding".
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from protocol.errors import InvalidRequestError
from protocol.messages import ModelSpec, PredictRequest, TensorProto, TensorShapeProto
from protocol.tensors import (
    data_type,
    from_content,
    read_shape,
    to_ndarray,
    varint,
    write_tensor,
)

Array = npt.NDArray[Any]

_LENGTH_DELIMITED = 2
_LARGEST_TAG = 0x7F  # of what is read here: one byte

# PredictRequest, PredictResponse, and the entries of their maps.
_SPEC_OF_REQUEST, _INPUTS, _OUTPUT_FILTER = 0x0A, 0x12, 0x1A
_OUTPUTS, _SPEC_OF_RESPONSE = b"\x0a", b"\x12"
_KEY, _VALUE = 0x0A, 0x12
# TensorProto.
_DTYPE, _SHAPE, _CONTENT = 0x08, 0x12, 0x22
_FLOATS, _DOUBLES, _STRINGS, _BOOLS = b"\x2a", b"\x32", b"\x42", b"\x5a"
_DT_FLOAT, _DT_DOUBLE, _DT_STRING, _DT_BOOL = 1, 2, 7, 10


class WireRequest(NamedTuple):
    """A PredictRequest, taken apart.

    Attributes:
        spec: the ModelSpec; None where it is missing.
        inputs: alias -> the bytes of its TensorProto, for `read_tensor`.
        output_filter: as it came.
        ends: alias -> where its TensorProto ends in the request's bytes; empty where the message
            classes have read them.
    """

    spec: Any
    inputs: dict[str, memoryview]
    output_filter: Sequence[str]
    ends: Mapping[str, int]


class RequestLayout:
    """Where the values of a request lie. Requests that agree in all other bytes have its layout.

    Such requests ask for the same and have inputs of the same names, dtypes and shapes: there is
    nothing to read in them but the values.

    Args:
        data: a request.
        inputs: alias -> place, dtype and shape of its values, which fill the tensor's end.
    """

    __slots__ = ("_fixed", "_start", "_values")

    def __init__(
        self, data: bytes, inputs: Sequence[tuple[str, int, "np.dtype[Any]", tuple[int, ...]]]
    ) -> None:
        self._values = [
            (alias, place, dtype, prod(shape), shape) for alias, place, dtype, shape in inputs
        ]
        ends = [(place, place + size * dtype.itemsize) for _, place, dtype, size, _ in self._values]
        self._start = data[: ends[0][0]]
        starts = [*(start for start, _ in ends[1:]), len(data)]
        gaps = [(end, start) for (_, end), start in zip(ends, starts, strict=True)]
        self._fixed = [(start, end, data[start:end]) for start, end in gaps if start < end]

    def fits(self, data: bytes) -> bool:
        """Tells whether a request of the same length has this layout."""
        if not data.startswith(self._start):
            return False
        return not self._fixed or all(data[a:b] == fixed for a, b, fixed in self._fixed)

    def inputs(self, data: bytes) -> dict[str, Array]:
        """Returns the inputs of a request that fits: views on its bytes."""
        return {
            alias: np.frombuffer(data, dtype, size, place).reshape(shape)
            for alias, place, dtype, size, shape in self._values
        }


class _UnusualError(Exception):
    """The bytes are not written as usual; the message classes shall read them."""


def read_request(data: bytes) -> WireRequest:
    """Takes a request apart; arrays are read later.

    Raises:
        InvalidRequestError: the bytes are no PredictRequest.
    """
    try:
        return _scan(data)
    except (_UnusualError, IndexError, UnicodeDecodeError):
        return _parse(data)


def request_layout(data: bytes, request: WireRequest) -> RequestLayout | None:
    """Finds the layout of a request; None where its values are not plain memory.

    Args:
        data: the request, whose tensors `read_tensor` has found to be good.
        request: what `read_request` made of it.
    """
    values = []
    for alias, end in sorted(request.ends.items(), key=lambda pair: pair[1]):
        found = _memory_of(request.inputs[alias])
        if found is None or found[0] not in _PLAIN:
            return None
        number, shape, memory = found
        values.append((alias, end - len(memory), _PLAIN[number], shape))
    return RequestLayout(data, values) if values else None


def _scan(data: bytes) -> WireRequest:
    spec, output_filter = None, []
    inputs: dict[str, memoryview] = {}
    ends: dict[str, int] = {}
    view = memoryview(data)
    place, end = 0, len(data)
    while place < end:
        tag = data[place]
        size, start = _length(data, place + 1, end)
        place = start + size
        if tag == _INPUTS:
            alias, tensor = _entry(data, view, start, place)
            inputs[alias] = tensor
            ends[alias] = place
        elif tag == _SPEC_OF_REQUEST and spec is None:
            spec = _read_spec(data[start:place])
        elif tag == _OUTPUT_FILTER:
            output_filter.append(data[start:place].decode())
        else:
            raise _UnusualError
    return WireRequest(spec, inputs, output_filter, ends)


def _entry(data: bytes, view: memoryview, start: int, end: int) -> tuple[str, memoryview]:
    """Reads one pair of a map, written key first."""
    if data[start] != _KEY:
        raise _UnusualError
    size, first = _length(data, start + 1, end)
    after = first + size
    if after >= end or data[after] != _VALUE:
        raise _UnusualError
    size, value = _length(data, after + 1, end)
    if value + size != end:
        raise _UnusualError
    return data[first:after].decode(), view[value:end]


def _length(data: bytes | memoryview, place: int, end: int) -> tuple[int, int]:
    """Reads a length that must fit before `end`; returns it and where the next byte is."""
    size = data[place]
    place += 1
    if size > _LARGEST_TAG:
        size &= 0x7F
        shift = 7
        while True:
            byte = data[place]
            place += 1
            size |= (byte & 0x7F) << shift
            if byte <= _LARGEST_TAG:
                break
            shift += 7
            if shift > 28:
                raise _UnusualError
    if place + size > end:
        raise _UnusualError
    return size, place


@lru_cache(maxsize=1024)
def _read_spec(data: bytes) -> Any:
    """Reads a ModelSpec; callers share it and must not change it."""
    try:
        return ModelSpec.FromString(data)
    except DecodeError:
        raise _UnusualError from None


def _parse(data: bytes) -> WireRequest:
    try:
        request = PredictRequest.FromString(data)
    except DecodeError as error:
        name = PredictRequest.DESCRIPTOR.full_name
        raise InvalidRequestError(
            f"The body of the request ({len(data)} bytes) is not a {name}: {error}"
        ) from error
    spec = request.model_spec if request.HasField("model_spec") else None
    inputs = {
        alias: memoryview(tensor.SerializeToString()) for alias, tensor in request.inputs.items()
    }
    return WireRequest(spec, inputs, list(request.output_filter), {})


def read_tensor(data: memoryview) -> Array:
    """Reads a TensorProto: a view on the bytes where it holds `tensor_content` or packed floats.

    Args:
        data: the serialized message.

    Returns:
        An array as `protocol.tensors.to_ndarray` gives it.

    Raises:
        InvalidTensorError: as `to_ndarray` does, or the bytes are no such message.
    """
    found = _memory_of(data)
    if found is not None:
        return from_content(*found)
    try:
        return to_ndarray(TensorProto.FromString(data))
    except DecodeError as error:
        raise InvalidRequestError(f"The bytes are not a TensorProto: {error}") from error


def _memory_of(data: memoryview) -> tuple[int, tuple[int, ...], memoryview] | None:
    """Finds dtype, shape and the memory of a tensor's values; None where they are not memory."""
    try:
        return _scan_tensor(data)
    except (_UnusualError, IndexError):
        return None


def _scan_tensor(data: memoryview) -> tuple[int, tuple[int, ...], memoryview] | None:
    if data[0] != _DTYPE or data[1] > _LARGEST_TAG or data[2] != _SHAPE:
        return None
    dtype, end = data[1], len(data)
    size, start = _length(data, 3, end)
    place = start + size
    shape = _read_shape(bytes(data[start:place]), dtype)
    tag = data[place]
    size, start = _length(data, place + 1, end)
    if start + size != end:
        return None
    if not size or (tag != _CONTENT and _PACKED.get((tag, dtype), 0) * prod(shape) != size):
        return None
    return dtype, shape, data[start:]


_PLAIN = {
    data_type(dtype): np.dtype(dtype)
    for dtype in ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16",
                  "uint32", "uint64", "float16")
}  # fmt: skip
"""Element types of which any bytes are values, by their number."""

_PACKED = {(_FLOATS[0], _DT_FLOAT): 4, (_DOUBLES[0], _DT_DOUBLE): 8}
"""Typed fields that hold what memory holds, and the size of a value."""


@lru_cache(maxsize=4096)
def _read_shape(data: bytes, dtype: int) -> tuple[int, ...]:
    """Reads a TensorShapeProto."""
    try:
        return read_shape(TensorShapeProto.FromString(data), dtype)
    except DecodeError:
        raise _UnusualError from None


def write_response(
    name: str, version: int, signature: str, outputs: Mapping[str, Array], *, content: bool
) -> bytes:
    """Writes a PredictResponse.

    Args:
        name: of the model.
        version: that answered.
        signature: that was run.
        outputs: alias -> array.
        content: whether to use `tensor_content` instead of the typed fields.

    Raises:
        InvalidTensorError: an array can not be carried.
    """
    parts: list[bytes] = []
    for alias, array in outputs.items():
        dtype = array.dtype
        if not content and dtype in _MEMORY_FIELDS:
            parts += (_head_of_memory(alias, dtype, array.shape), array.tobytes())
            continue
        tensor = _tensor_parts(array, content)
        parts += (_head_of_entry(alias, sum(map(len, tensor))), *tensor)
    parts.append(_spec_bytes(name, version, signature))
    return b"".join(parts)


@lru_cache(maxsize=4096)
def _head_of_memory(alias: str, dtype: "np.dtype[Any]", shape: tuple[int, ...]) -> bytes:
    """What stands before the values of an output that are written as memory holds them."""
    number, tag = _MEMORY_FIELDS[dtype]
    size = prod(shape) * dtype.itemsize
    head = _head_of_tensor(number, shape) + (tag + varint(size) if size else b"")
    return _head_of_entry(alias, len(head) + size) + head


@lru_cache(maxsize=4096)
def _head_of_entry(alias: str, size: int) -> bytes:
    """What stands before a tensor of `size` bytes among the outputs."""
    key = alias.encode()
    inner = b"\x0a" + varint(len(key)) + key + b"\x12" + varint(size)
    return _OUTPUTS + varint(len(inner) + size) + inner


@lru_cache(maxsize=1024)
def _spec_bytes(name: str, version: int, signature: str) -> bytes:
    spec = ModelSpec(name=name, signature_name=signature)
    spec.version.value = version
    data: bytes = spec.SerializeToString()
    return _SPEC_OF_RESPONSE + varint(len(data)) + data


def _tensor_parts(array: Array, content: bool) -> Iterable[bytes]:
    """Serializes one tensor, in pieces."""
    dtype = array.dtype
    if not content and dtype.kind == "O" and all(type(item) is bytes for item in array.flat):
        return _listed_strings(array)
    proto = TensorProto()
    write_tensor(proto, array, content=content)
    return [proto.SerializeToString()]


_MEMORY_FIELDS = {
    np.dtype("<f4"): (_DT_FLOAT, _FLOATS),
    np.dtype("<f8"): (_DT_DOUBLE, _DOUBLES),
    np.dtype(np.bool_): (_DT_BOOL, _BOOLS),
}
"""Number and tag of the dtypes whose typed field holds what memory holds."""


def _listed_strings(array: Array) -> Iterable[bytes]:
    parts = [_head_of_tensor(_DT_STRING, array.shape)]
    for item in array.ravel().tolist():
        parts += (_STRINGS, varint(len(item)), item)
    return parts


@lru_cache(maxsize=4096)
def _head_of_tensor(number: int, shape: tuple[int, ...]) -> bytes:
    proto = TensorProto(dtype=number)
    proto.tensor_shape.SetInParent()
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    data: bytes = proto.SerializeToString()
    return data
