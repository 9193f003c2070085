"""Tensors on the wire: ndarray <-> TensorProto, without TensorFlow.

A TensorProto carries its values in one of two encodings. `tensor_content` is the array's memory,
row by row. The typed fields (`float_val`, `int_val`, ...) list the values one by one; a list that
is shorter than the shape asks for stands for "repeat the last value", an empty one for zeros.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from protocol.errors import InvalidTensorError
from protocol.messages import TensorProto

MAX_RANK = 64  # what numpy can hold
MAX_FILL_BYTES = 1 << 28  # a few bytes on the wire may not make us allocate more than this

_INT64_MAX = (1 << 63) - 1
_STRING_KINDS = "SUTO"  # numpy's bytes, str, variable-width str, object


@dataclass(frozen=True)
class _Element:
    """How one element type is held in memory and on the wire.

    Attributes:
        number: value of the DataType enum.
        name: TensorFlow's name of the dtype.
        dtype: what numpy holds it as; quantised types are the integers they consist of.
        field: the typed field that lists its values.
        listed: dtype of the values in that field.
        bits: dtype with the same memory as `dtype` whose values are what the field lists.
    """

    number: int
    name: str
    dtype: np.dtype[Any]
    field: str
    listed: np.dtype[Any]
    bits: np.dtype[Any]


def _element(number: int, name: str, dtype: Any, field: str, listed: Any, bits: Any) -> _Element:
    return _Element(number, name, np.dtype(dtype), field, np.dtype(listed), np.dtype(bits))


def _plain(number: int, dtype: Any, field: str) -> _Element:
    """An element type whose field lists the values as they are."""
    return _element(number, np.dtype(dtype).name, dtype, field, dtype, dtype)


def _narrow(number: int, dtype: Any, name: str | None = None) -> _Element:
    """An integer type whose values travel as int32."""
    return _element(number, name or np.dtype(dtype).name, dtype, "int_val", np.int32, dtype)


def _half(number: int, dtype: Any) -> _Element:
    """A 16-bit float whose bits travel as int32."""
    return _element(number, np.dtype(dtype).name, dtype, "half_val", np.int32, np.uint16)


def _float8(number: int, dtype: Any) -> _Element:
    """An 8-bit float whose bits travel as bytes."""
    return _element(number, np.dtype(dtype).name, dtype, "float8_val", np.uint8, np.uint8)


_STRING = _element(7, "string", object, "string_val", object, object)

_ELEMENTS: dict[int, _Element] = {
    element.number: element
    for element in (
        _plain(1, np.float32, "float_val"),
        _plain(2, np.float64, "double_val"),
        _plain(3, np.int32, "int_val"),
        _narrow(4, np.uint8),
        _narrow(5, np.int16),
        _narrow(6, np.int8),
        _STRING,
        _element(8, "complex64", np.complex64, "scomplex_val", np.float32, np.float32),
        _plain(9, np.int64, "int64_val"),
        _plain(10, np.bool_, "bool_val"),
        _narrow(11, np.int8, "qint8"),
        _narrow(12, np.uint8, "quint8"),
        _narrow(13, np.int32, "qint32"),
        _half(14, ml_dtypes.bfloat16),
        _narrow(15, np.int16, "qint16"),
        _narrow(16, np.uint16, "quint16"),
        _narrow(17, np.uint16),
        _element(18, "complex128", np.complex128, "dcomplex_val", np.float64, np.float64),
        _half(19, np.float16),
        _plain(22, np.uint32, "uint32_val"),
        _plain(23, np.uint64, "uint64_val"),
        _float8(24, ml_dtypes.float8_e5m2),
        _float8(25, ml_dtypes.float8_e4m3fn),
        _narrow(29, ml_dtypes.int4),
        _narrow(30, ml_dtypes.uint4),
    )
}
_NUMBERS: dict[str, int] = {element.name: number for number, element in _ELEMENTS.items()}
_NUMBER_OF_DTYPE: dict[np.dtype[Any], int] = {
    element.dtype: number
    for number, element in _ELEMENTS.items()
    if not element.name.startswith(("q", "string"))
}

DTYPES: Mapping[int, np.dtype[Any]] = MappingProxyType(
    {number: element.dtype for number, element in _ELEMENTS.items()}
)
"""numpy dtype of every element type that can be carried, by value of the DataType enum."""


def dtype_name(number: int) -> str:
    """Names an element type as TensorFlow does: `float32`, `string`, `qint8`, ...

    Raises:
        InvalidTensorError: the type cannot be carried.
    """
    return _known_element(number).name


def data_type(dtype: npt.DTypeLike) -> int:
    """Finds the DataType number of a dtype.

    Args:
        dtype: a numpy dtype, or a name as `dtype_name` gives it. Every numpy string or object
            dtype is `string`. Quantised types have to be named.

    Raises:
        InvalidTensorError: the type cannot be carried.
    """
    if isinstance(dtype, str) and dtype in _NUMBERS:
        return _NUMBERS[dtype]
    try:
        wanted = np.dtype(dtype)
    except TypeError:
        raise InvalidTensorError(_unsupported(f"dtype {dtype!r}")) from None
    if wanted.kind in _STRING_KINDS:
        return _STRING.number
    number = _NUMBER_OF_DTYPE.get(wanted.newbyteorder("="))
    if number is None:
        raise InvalidTensorError(_unsupported(f"dtype {wanted}"))
    return number


def to_tensor_proto(array: npt.ArrayLike, *, content: bool = True, dtype: str | None = None) -> Any:
    """Encodes an array as a new TensorProto.

    Args:
        array: any shape; Python values get numpy's dtypes. Strings may be bytes or str, which
            is encoded as UTF-8.
        content: write `tensor_content`, the fast way; else the typed field, as servers answer.
            Strings always travel in their typed field.
        dtype: name of the element type, where the array's own dtype does not tell (`qint8`).

    Returns:
        A TensorProto.

    Raises:
        InvalidTensorError: the dtype cannot be carried, or is not the one that was named.
    """
    proto = TensorProto()
    write_tensor(proto, array, content=content, dtype=dtype)
    return proto


def write_tensor(
    proto: Any, array: npt.ArrayLike, *, content: bool = True, dtype: str | None = None
) -> None:
    """Encodes an array into an empty TensorProto, such as an entry of a request's `inputs`.

    Args:
        proto: the TensorProto to fill.
        array: see `to_tensor_proto`, as for the other arguments and errors.
        content: see `to_tensor_proto`.
        dtype: see `to_tensor_proto`.
    """
    values = _as_ndarray(array)
    element = _ELEMENTS[data_type(values.dtype if dtype is None else dtype)]
    proto.dtype = element.number
    proto.tensor_shape.SetInParent()  # there, too, for a scalar
    add_dim = proto.tensor_shape.dim.add
    for size in values.shape:
        add_dim().size = size
    if element is _STRING:
        proto.string_val.extend(_encode_strings(values))
        return
    if values.dtype != element.dtype:
        values = _native(values, element)
    if content:
        proto.tensor_content = values.tobytes()
    else:
        _write_field(proto, values, element)


def to_ndarray(proto: Any) -> npt.NDArray[Any]:
    """Decodes a TensorProto.

    Args:
        proto: a TensorProto in either encoding.

    Returns:
        An array of the proto's shape, read-only where it is a view on `tensor_content`.
        Strings are an object array of bytes; quantised types are their integers.

    Raises:
        InvalidTensorError: unknown dtype; unknown, negative or too large shape; or a number of
            values that does not fit the shape. Nothing large is allocated before that is known.
    """
    element = _known_element(proto.dtype)
    shape = _checked_shape(proto.tensor_shape, element)
    content = proto.tensor_content
    if content:
        return _read_content(content, element, shape).reshape(shape)
    return _read_field(proto, element, shape).reshape(shape)


def from_content(
    dtype: int, shape: tuple[int, ...], content: bytes | memoryview
) -> npt.NDArray[Any]:
    """Reads an array from its parts.

    Args:
        dtype: value of the DataType enum.
        shape: as `read_shape` gives it for this dtype.
        content: what `tensor_content` holds, not empty.

    Returns, Raises: as `to_ndarray`.
    """
    return _read_content(content, _known_element(dtype), shape).reshape(shape)


def read_shape(proto: Any, dtype: int) -> tuple[int, ...]:
    """Reads a TensorShapeProto of a tensor with this value of the DataType enum.

    Raises:
        InvalidTensorError: as `to_ndarray`.
    """
    return _checked_shape(proto, _known_element(dtype))


def _known_element(number: int) -> _Element:
    element = _ELEMENTS.get(number)
    if element is None:
        raise InvalidTensorError(_unsupported(f"DataType {number}"))
    return element


def _unsupported(what: str) -> str:
    return f"{what} cannot be carried in a tensor; known: {', '.join(_NUMBERS)}"


# Encoding.


def _as_ndarray(array: npt.ArrayLike) -> npt.NDArray[Any]:
    """Like np.asarray, but Python strings keep their trailing zero bytes."""
    if isinstance(array, np.ndarray):
        return array
    try:
        values = np.asarray(array)
        return np.asarray(array, dtype=object) if values.dtype.kind in _STRING_KINDS else values
    except ValueError as error:
        raise InvalidTensorError(f"not a rectangular array: {error}") from None


def _native(values: npt.NDArray[Any], element: _Element) -> npt.NDArray[Any]:
    """Brings foreign byte order home; any other difference of dtype is refused."""
    if values.dtype.newbyteorder("=") != element.dtype:
        raise InvalidTensorError(
            f"an array of {element.name} must have numpy dtype {element.dtype}, not {values.dtype}"
        )
    return values.astype(element.dtype)


def _encode_strings(values: npt.NDArray[Any]) -> list[bytes]:
    return [
        item if type(item) is bytes else _encode_string(item) for item in values.ravel().tolist()
    ]


def _encode_string(item: Any) -> bytes:
    if isinstance(item, str):
        try:
            return item.encode()
        except UnicodeEncodeError as error:
            raise InvalidTensorError(f"str cannot be encoded as UTF-8: {error}") from None
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item)
    raise InvalidTensorError(
        f"an element of a string tensor must be str or bytes, not {type(item).__name__}"
    )


def _write_field(proto: Any, values: npt.NDArray[Any], element: _Element) -> None:
    """Lists the values in the typed field of their element type."""
    listed = values.ravel().view(element.bits)
    if element.field == "float8_val":
        proto.float8_val = listed.tobytes()
    elif element.listed.kind in "fb":
        _append_packed(proto, element.field, listed)
    elif _are_single_bytes(listed):
        _append_packed(proto, element.field, listed.astype(np.uint8))
    else:
        getattr(proto, element.field).extend(listed.astype(element.listed).tolist())


def _are_single_bytes(listed: npt.NDArray[Any]) -> bool:
    """Whether every integer is one byte on the wire; short lists are not worth the look."""
    return listed.size >= _WORTH_PACKING and bool(listed.min() >= 0 and listed.max() <= 0x7F)


def _append_packed(proto: Any, field: str, listed: npt.NDArray[Any]) -> None:
    """Appends values of a fixed width to a repeated field, far faster than its `extend`.

    On the wire such a field is a tag, a length and the plain memory of the values, which we
    write ourselves and let the proto merge.
    """
    if listed.size:
        proto.MergeFromString(_PACKED_TAGS[field] + varint(listed.nbytes) + listed.tobytes())


def varint(number: int) -> bytes:
    """Writes a number as protobuf does: seven bits a byte, the lowest first."""
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


_WORTH_PACKING = 256
_WIRE_TYPE_LENGTH_DELIMITED = 2
_PACKED_TAGS: dict[str, bytes] = {
    field.name: varint(field.number << 3 | _WIRE_TYPE_LENGTH_DELIMITED)
    for field in TensorProto.DESCRIPTOR.fields
}


# Decoding.


def _checked_shape(proto: Any, element: _Element) -> tuple[int, ...]:
    """Reads a TensorShapeProto, making sure that numpy can form such an array."""
    if proto.unknown_rank:
        raise InvalidTensorError("the shape of a tensor must be known, but unknown_rank is set")
    shape = tuple([dim.size for dim in proto.dim])
    if len(shape) > MAX_RANK:
        raise InvalidTensorError(f"a tensor has at most {MAX_RANK} dimensions, got {len(shape)}")
    if shape and min(shape) < 0:
        raise InvalidTensorError(f"dimensions must not be negative, got shape {list(shape)}")
    if math.prod(max(size, 1) for size in shape) * element.dtype.itemsize > _INT64_MAX:
        raise InvalidTensorError(f"shape {list(shape)} is too large for any {element.name} tensor")
    return shape


def _read_content(
    content: bytes | memoryview, element: _Element, shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    """Reads `tensor_content`: a view on it, except for strings and unclean bools."""
    count = math.prod(shape)
    if element is _STRING:
        return _object_array(_split_strings(bytes(content), count))
    if len(content) != count * element.dtype.itemsize:
        raise InvalidTensorError(
            f"{element.name} tensor of shape {list(shape)} needs "
            f"{count * element.dtype.itemsize} bytes of tensor_content, got {len(content)}"
        )
    if element.dtype.kind != "b":
        return np.frombuffer(content, element.dtype)
    values = np.frombuffer(content, np.uint8)
    return values.view(np.bool_) if values.max() <= 1 else values.astype(np.bool_)


def _split_strings(content: bytes, count: int) -> list[bytes]:
    """Takes apart `count` strings packed as all their lengths, then all their bytes."""
    if count > len(content):
        raise InvalidTensorError(
            f"tensor_content of {len(content)} bytes cannot hold {count} strings"
        )
    lengths, start = [], 0
    for _ in range(count):
        length, start = _readvarint(content, start)
        lengths.append(length)
    if start + sum(lengths) != len(content):
        raise InvalidTensorError(
            f"{count} strings need {start + sum(lengths)} bytes of tensor_content, "
            f"got {len(content)}"
        )
    strings = []
    for length in lengths:
        strings.append(content[start : start + length])
        start += length
    return strings


def _readvarint(content: bytes, start: int) -> tuple[int, int]:
    """Returns a varint and where the next byte is."""
    number = 0
    for index, byte in enumerate(content[start : start + 5]):
        number |= (byte & 0x7F) << (7 * index)
        if byte <= 0x7F:
            return number, start + index + 1
    raise InvalidTensorError("tensor_content ends, or overflows, within the length of a string")


def _read_field(proto: Any, element: _Element, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Reads the typed field, filling up to the shape with the last value, or with zeros."""
    count = math.prod(shape)
    values = _listed_values(proto, element)
    if len(values) == count:
        return values
    if len(values) > count:
        raise InvalidTensorError(
            f"{element.name} tensor of shape {list(shape)} takes {count} values, "
            f"got {len(values)} in {element.field}"
        )
    if count * element.dtype.itemsize > MAX_FILL_BYTES:
        raise InvalidTensorError(
            f"{element.name} tensor of shape {list(shape)} has {len(values)} values in "
            f"{element.field}; repeating them may fill at most {MAX_FILL_BYTES} bytes"
        )
    return _filled(values, count, element)


def _listed_values(proto: Any, element: _Element) -> npt.NDArray[Any]:
    """Reads the values that the typed field lists, in the element's own dtype."""
    if element is _STRING:
        return _object_array(list(proto.string_val))
    if element.field == "float8_val":
        return np.frombuffer(proto.float8_val, element.dtype)
    values = np.array(getattr(proto, element.field), dtype=element.listed)
    if element.bits != element.listed:
        values = _narrowed(values, element)
    if element.dtype.itemsize > element.bits.itemsize and len(values) % 2:
        raise InvalidTensorError(
            f"{element.field} lists pairs of real and imaginary parts, got {len(values)} numbers"
        )
    return values.view(element.dtype)


def _narrowed(values: npt.NDArray[Any], element: _Element) -> npt.NDArray[Any]:
    """Casts int32 to the smaller type they stand for, refusing values that do not fit."""
    narrow = values.astype(element.bits)
    unfit = narrow.astype(values.dtype) != values
    if unfit.any():
        raise InvalidTensorError(
            f"{element.field} lists {values[unfit][0]}, which is no {element.name}"
        )
    return narrow


def _filled(values: npt.NDArray[Any], count: int, element: _Element) -> npt.NDArray[Any]:
    if len(values) == 0:
        return np.full(count, b"", object) if element is _STRING else np.zeros(count, element.dtype)
    filled = np.empty(count, dtype=element.dtype)
    filled[: len(values)] = values
    filled[len(values) :] = values[-1]
    return filled


def _object_array(items: list[bytes]) -> npt.NDArray[Any]:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array
