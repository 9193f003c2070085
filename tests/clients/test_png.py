"""The reader of masks against Pillow, and against filters applied one by one."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from clients.png import read_grey_png
from protocol.errors import ContractError
from tests.clients.fake_models import png

Mask = np.ndarray[Any, np.dtype[np.uint8]]

masks = npst.arrays(
    np.uint8,
    npst.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.integers(0, 255),
)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def encoded(header: tuple[int, ...], rows: bytes) -> bytes:
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", *header))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def filtered(mask: Mask, kinds: list[int]) -> bytes:
    """Applies the filters of the PNG specification, section 9.2, in the forward direction."""
    padded = np.pad(mask, ((1, 0), (1, 0))).astype(int)
    rows = bytearray()
    for y in range(1, len(padded)):
        kind = kinds[(y - 1) % len(kinds)]
        rows.append(kind)
        for x in range(1, padded.shape[1]):
            left, up, corner = padded[y, x - 1], padded[y - 1, x], padded[y - 1, x - 1]
            estimate = left + up - corner
            nearest = min((left, up, corner), key=lambda value: abs(estimate - value))
            predicted = (0, left, up, (left + up) // 2, nearest)[kind]
            rows.append(int(padded[y, x] - predicted) & 0xFF)
    return bytes(rows)


@given(mask=masks, kinds=st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_every_filter(mask: Mask, kinds: list[int]) -> None:
    data = encoded((mask.shape[1], mask.shape[0], 8, 0, 0, 0, 0), filtered(mask, kinds))
    assert np.array_equal(read_grey_png(data), mask)


@given(mask=masks)
def test_what_pillow_writes(mask: Mask) -> None:
    assert np.array_equal(read_grey_png(png(mask)), mask)


def test_a_smooth_image_in_several_chunks() -> None:
    y, x = np.mgrid[:300, :200]
    mask = ((y * x) // 97 % 256).astype(np.uint8)
    data = png(mask)
    assert np.array_equal(read_grey_png(data), mask)
    start = data.index(b"IDAT") - 4
    (length,) = struct.unpack_from(">I", data, start)
    body = data[start + 8 : start + 8 + length]
    parts = chunk(b"IDAT", body[:100]) + chunk(b"IDAT", body[100:])
    assert np.array_equal(read_grey_png(data[:start] + parts + data[start + 12 + length :]), mask)


def colour_png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (3, 3)).save(file, format="PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "begin with b''"),
        (b"\x89PNG\r\n\x1a\n", "no header"),
        (b"\xff\xd8\xff\xe0 a JPEG", "begin with"),
        (png(np.zeros((3, 3), np.uint8))[:-20], "unpack"),
        (colour_png(), "colour type 2"),
        (encoded((3, 3, 16, 0, 0, 0, 0), b"\0" * 21), "bit depth 16"),
        (encoded((3, 3, 8, 0, 0, 0, 1), b"\0" * 12), "interlacing 1"),
        (encoded((3, 3, 8, 0, 0, 0, 0), b"\0" * 11), "12 bytes of pixels were expected, 11"),
        (encoded((3, 3, 8, 0, 0, 0, 0), b"\0" * 10_000_000), "12 bytes of pixels were expected"),
        (encoded((3, 3, 8, 0, 0, 0, 0), b"\5" * 12), "filter 5"),
        (encoded((0, 3, 8, 0, 0, 0, 0), b""), "its size is 0 x 3"),
        (encoded((1 << 30, 1 << 30, 8, 0, 0, 0, 0), b""), "its size is"),
        (png(np.zeros((3, 3), np.uint8)).replace(b"IDAT", b"IDAX"), "'IDAX' is damaged"),
    ],
)
def test_other_files_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        read_grey_png(data)
