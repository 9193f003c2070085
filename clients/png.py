"""Reads masks: PNG files of one 8-bit grey channel, without Pillow."""

import struct
import zlib
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from protocol.errors import ContractError

_MAGIC = b"\x89PNG\r\n\x1a\n"
_LARGEST_PIXELS = 1 << 28
_NONE, _SUB, _UP, _AVERAGE, _PAETH = range(5)


def read_grey_png(data: bytes) -> npt.NDArray[np.uint8]:
    """Decodes a PNG of 8-bit grey without interlacing.

    Args:
        data: The whole file.

    Returns:
        uint8 [H, W].

    Raises:
        ContractError: It is no such PNG, or damaged.

    Source: PNG specification (third edition), sections 5 (chunks), 9 (filters).
    """
    try:
        chunks = list(_chunks(data))
        width, height = _size(chunks)
        content = b"".join(body for kind, body in chunks if kind == b"IDAT")
        rows = _inflated(content, height * (width + 1))
    except (struct.error, zlib.error, ValueError) as error:
        raise ContractError(f"expected a mask as an 8-bit grey PNG: {error}") from error
    return _unfiltered(np.frombuffer(rows, np.uint8).reshape(height, width + 1))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields the kind and the body of each chunk."""
    if not data.startswith(_MAGIC):
        raise ValueError(f"the data begin with {data[:8]!r}")
    start = len(_MAGIC)
    while start < len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        body = data[start + 8 : start + 8 + length]
        (checksum,) = struct.unpack_from(">I", data, start + 8 + length)
        if checksum != zlib.crc32(kind + body):
            raise ValueError(f"chunk {kind.decode(errors='replace')!r} is damaged")
        yield kind, body
        start += length + 12


def _size(chunks: list[tuple[bytes, bytes]]) -> tuple[int, int]:
    """Returns width and height of the header, if the kind is one we read."""
    kind, header = chunks[0] if chunks else (b"", b"")
    if kind != b"IHDR":
        raise ValueError("there is no header")
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if (depth, colour, interlaced) != (8, 0, 0):
        raise ValueError(f"bit depth {depth}, colour type {colour}, interlacing {interlaced}")
    if not 0 < width * height <= _LARGEST_PIXELS:
        raise ValueError(f"its size is {width} x {height}")
    return width, height


def _inflated(content: bytes, expected: int) -> bytes:
    """Decompresses exactly the expected number of bytes; a bomb is never unpacked."""
    rows = zlib.decompressobj().decompress(content, expected + 1)
    if len(rows) != expected:
        raise ValueError(f"{expected} bytes of pixels were expected, {len(rows)} came")
    return rows


def _unfiltered(rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Undoes the filter of each row.

    Args:
        rows: uint8 [H, 1 + W]; the first byte of a row names its filter.
    """
    pixels = np.zeros((len(rows) + 1, rows.shape[1] - 1), np.uint8)  # the row above the first is 0
    for line, (above, current) in zip(rows, pairwise(pixels), strict=True):
        kind, values = int(line[0]), line[1:]
        if kind == _NONE:
            current[:] = values
        elif kind == _SUB:
            np.cumsum(values, dtype=np.uint8, out=current)
        elif kind == _UP:
            np.add(values, above, out=current)
        elif kind in (_AVERAGE, _PAETH):
            undo = _undo_average if kind == _AVERAGE else _undo_paeth
            current[:] = np.frombuffer(undo(values.tobytes(), above.tobytes()), np.uint8)
        else:
            raise ContractError(f"expected a mask as an 8-bit grey PNG: filter {kind}")
    return pixels[1:]


def _undo_average(values: bytes, above: bytes) -> bytes:
    left = 0
    result = bytearray()
    for value, up in zip(values, above, strict=True):
        left = (value + ((left + up) >> 1)) & 0xFF
        result.append(left)
    return bytes(result)


def _undo_paeth(values: bytes, above: bytes) -> bytes:
    """Adds to each value the neighbour nearest to left + up - corner: left, up or corner."""
    left = corner = 0
    result = bytearray()
    for value, up in zip(values, above, strict=True):
        if left == corner:  # the rule's answer is `up`; most pixels of a mask end here
            nearest = up
        else:
            to_left, to_up = abs(up - corner), abs(left - corner)
            to_corner = abs(left + up - 2 * corner)
            if to_left <= to_up and to_left <= to_corner:
                nearest = left
            else:
                nearest = up if to_up <= to_corner else corner
        corner = up
        left = (value + nearest) & 0xFF
        result.append(left)
    return bytes(result)
