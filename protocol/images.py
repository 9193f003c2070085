"""Image files to pixels and back, on the host.

`models.common.graph_images` gives the same answers inside a TensorFlow graph. What is defined:

- JPEG (baseline, extended, progressive; 8 bits) and PNG are accepted, nothing else.
- The Exif orientation of a JPEG is applied: SHORT entry 0x0112 of the first IFD of the first Exif
  segment before the frame header. Whatever is malformed there means 1, upright. A PNG has none.
- Pixels come as RGB. Grey gives three equal channels, a palette is expanded (an index outside it
  is black), 1, 2 and 4 bits are scaled to 0..255, of 16 bits the high byte is kept. Alpha and
  transparent colours are ignored. Colour profiles and gamma are not applied.
- CMYK and YCCK become RGB as (255 - C)(255 - K) // 255; files with an Adobe segment, which hold
  inverted inks, as C K // 255.
- Of an animated PNG the still image is taken, of several JPEGs in one file the first.
- An image that declares more than `MAX_PIXELS` or a side above `MAX_SIDE` is refused before any
  pixel is decoded.
- A file that is cut short is refused, and so is a PNG with a wrong checksum in any chunk that
  matters for its pixels. JPEG has no checksum: damage that still decodes is not noticed.
- What makes a small file expensive is refused: more than `MAX_SCANS` scans or `MAX_SEGMENTS`
  segments in a JPEG, more than `MAX_CHUNKS` chunks or rows that inflate to more than declared in
  a PNG. Metadata is never read, the orientation excepted.

Pillow is imported when a function needs it: thin clients do without.
"""

import io
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import numpy.typing as npt

from protocol.errors import InvalidRequestError

if TYPE_CHECKING:
    from PIL.Image import Image

JPEG_MAGIC = b"\xff\xd8\xff"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"

PNG_HEADER_START = b"\0\0\0\rIHDR"  # length and name of the first chunk

MAX_PIXELS = 64 * 2**20  # 67,108,864
MAX_SIDE = 65_500  # what libjpeg decodes at most
MAX_SEGMENTS = 1024  # segments and fill bytes of a JPEG before its frame header, and after it
MAX_SCANS = 64  # of a JPEG; each costs a pass over the whole image, usual are 1 to 10
MAX_CHUNKS = 2**16  # of a PNG

# Markers that may stand before the frame header: Huffman and quantisation tables, arithmetic
# conditioning, restart interval, APP0 to APP15, comment.
TABLE_MARKERS = frozenset({0xC4, 0xCC, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE})
SCAN_MARKER = 0xDA
FRAME_MARKERS = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended sequential, progressive

EXIF_MARKER = 0xE1
EXIF_PREFIX = b"Exif\0\0"
ORIENTATION_TAG = 0x0112
SHORT_TYPE = 3

TRANSPOSED = frozenset({5, 6, 7, 8})  # orientations that swap rows and columns first,
MIRRORED_COLUMNS = frozenset({2, 3, 6, 7})  # then reverse the columns,
MIRRORED_ROWS = frozenset({3, 4, 7, 8})  # then the rows

# APP segments that tell libjpeg the colour space: marker -> (prefix, bytes at least).
_COLOUR_SEGMENTS = {0xE0: (b"JFIF\0", 14), 0xEE: (b"Adobe", 12)}
# The next marker after entropy-coded data, in which 0xFF 0x00 and the restart markers stand.
_NEXT_MARKER = re.compile(rb"\xff[^\xff\x00\x01\xd0-\xd7]")
_END_OF_IMAGE = 0xD9

_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PALETTE_COLOUR = 3
# Passes of an interlaced PNG (Adam7): first column and row, then steps between columns and rows.
_INTERLACED = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_NOT_INTERLACED = ((0, 0, 1, 1),)
_INFLATED_AT_ONCE = 2**16  # compressed bytes
_OTHER_FORMATS = (
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)


@dataclass(frozen=True)
class _Segment:
    """One marker segment of a JPEG: `data[start:end]` begins with the marker's 0xFF."""

    marker: int
    start: int
    end: int


@dataclass(frozen=True)
class _Declared:
    """What a file's header says; the sizes are those of the stored image."""

    format: str
    height: int
    width: int
    orientation: int = 1


def decode_image(data: bytes) -> npt.NDArray[np.uint8]:
    """Decodes a JPEG or PNG file.

    Args:
        data: the file's bytes.

    Returns:
        uint8 [H, W, 3], RGB, upright; read-only.

    Raises:
        InvalidRequestError: not a JPEG or PNG, too large, cut short or damaged.
    """
    declared = _read_header(data)
    essence = _jpeg_essence(data) if declared.format == "JPEG" else _png_essence(data)
    try:
        image = _open(essence, declared)
        return _to_rgb(_turn(image, declared.orientation))
    except InvalidRequestError:
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error ...
        raise InvalidRequestError(
            f"image of {len(data)} bytes is not a whole {declared.format} file: {error}"
        ) from error


def image_size(data: bytes) -> tuple[int, int]:
    """Reads the size that `decode_image` would give, without decoding.

    Args:
        data: the file's bytes; the header is enough.

    Returns:
        Height and width in pixels, after the Exif orientation.

    Raises:
        InvalidRequestError: not a JPEG or PNG, a damaged header, or too large.
    """
    declared = _read_header(data)
    if declared.orientation in TRANSPOSED:
        return declared.width, declared.height
    return declared.height, declared.width


def encode_png(image: npt.NDArray[np.uint8]) -> bytes:
    """Encodes pixels as a PNG file.

    Args:
        image: uint8 [H, W] (grey) or [H, W, 3] (RGB).

    Raises:
        InvalidRequestError: another dtype or shape, or no pixel at all.
    """
    from PIL import Image

    grey_or_rgb = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if image.dtype != np.uint8 or not grey_or_rgb or image.size == 0:
        raise InvalidRequestError(
            "image must be uint8 [H, W] or [H, W, 3] with at least one pixel, "
            f"got {image.dtype} {list(image.shape)}"
        )
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return file.getvalue()


def _read_header(data: bytes) -> _Declared:
    """Reads and checks what a file declares about itself."""
    if data.startswith(JPEG_MAGIC):
        declared = _jpeg_header(data)
    elif data.startswith(PNG_MAGIC):
        declared = _png_header(data)
    else:
        raise InvalidRequestError(f"image must be a JPEG or PNG file, got {_describe(data)}")
    height, width = declared.height, declared.width
    if min(height, width) < 1 or max(height, width) > MAX_SIDE or height * width > MAX_PIXELS:
        raise InvalidRequestError(
            f"image declares {height} x {width} pixels (height x width); expected sides from 1 "
            f"to {MAX_SIDE} and at most {MAX_PIXELS} pixels"
        )
    return declared


def _describe(data: bytes) -> str:
    """Names what came instead of an image that can be read."""
    if not data:
        return "no bytes"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "a WEBP file"
    if data[4:8] == b"ftyp":
        return "a HEIC, AVIF or MP4 file"
    for magic, name in _OTHER_FORMATS:
        if data.startswith(magic):
            return f"a {name} file"
    return f"{len(data)} bytes that begin with {data[:8]!r}"


def _jpeg_header(data: bytes) -> _Declared:
    segments = list(_jpeg_segments(data))
    frame = data[segments[-1].start + 4 : segments[-1].end]
    if len(frame) < 6:
        _refuse_jpeg(len(data), "its frame header is too short")
    bits, height, width, components = struct.unpack_from(">BHHB", frame)
    if bits != 8 or components not in (1, 3, 4):
        raise InvalidRequestError(
            "JPEG must have 8 bits a sample and 1, 3 or 4 components, "
            f"got {bits} bits and {components} components"
        )
    return _Declared("JPEG", height, width, _orientation(segments, data))


def _jpeg_segments(data: bytes) -> Iterator[_Segment]:
    """Yields the segments before the frame header, and the frame header as the last."""
    position = len(JPEG_MAGIC) - 1
    for _ in range(MAX_SEGMENTS):
        head = data[position : position + 4]
        if len(head) < 4:
            _refuse_jpeg(len(data), "it ends before its frame header")
        if head[:2] == b"\xff\xff":  # a fill byte
            position += 1
            continue
        marker, length = head[1], int.from_bytes(head[2:], "big")
        if head[0] != 0xFF or marker not in TABLE_MARKERS | FRAME_MARKERS or length < 2:
            _refuse_jpeg(len(data), f"bytes {head.hex(' ')} at {position} start no known segment")
        end = position + 2 + length
        yield _Segment(marker, position, end)
        if marker in FRAME_MARKERS:
            return
        position = end
    _refuse_jpeg(len(data), f"no frame header in its first {MAX_SEGMENTS} segments")


def _refuse_jpeg(size: int, reason: str) -> NoReturn:
    raise InvalidRequestError(
        f"image of {size} bytes is not a whole baseline, extended or progressive JPEG file: "
        f"{reason}"
    )


def _orientation(segments: list[_Segment], data: bytes) -> int:
    """Reads the orientation from the first Exif segment; 1 where there is none."""
    for segment in segments:
        body = data[segment.start + 4 : segment.end]
        if segment.marker == EXIF_MARKER and body.startswith(EXIF_PREFIX):
            return _exif_orientation(body[len(EXIF_PREFIX) :])
    return 1


def _exif_orientation(tiff: bytes) -> int:
    """Finds the orientation in an Exif segment's TIFF structure.

    Source: TIFF 6.0, section 2; Exif 2.32, section 4.6.4 (orientation).

    Returns:
        1 to 8; 1 where there is none, or anything is malformed.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return 1
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    if start + 2 > len(tiff):
        return 1
    (entries,) = struct.unpack_from(f"{order}H", tiff, start)
    entries = min(entries, (len(tiff) - start - 2) // 12)
    for index in range(entries):
        entry = struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * index)
        if entry[:3] == (ORIENTATION_TAG, SHORT_TYPE, 1):
            return entry[3] if 1 <= entry[3] <= 8 else 1
    return 1


def _jpeg_essence(data: bytes) -> bytes:
    """Returns the file without its metadata, which Pillow would read and could stumble over."""
    *tables, frame = _jpeg_segments(data)
    _check_jpeg_end(data, frame.start)
    scans = data.count(bytes((0xFF, SCAN_MARKER)), frame.start)
    if scans > MAX_SCANS:
        _refuse_jpeg(len(data), f"it has {scans} scans, expected at most {MAX_SCANS}")
    kept = [data[part.start : part.end] for part in tables if _is_essential(part, data)]
    return b"".join([data[: len(JPEG_MAGIC) - 1], *kept, data[frame.start :]])


def _check_jpeg_end(data: bytes, start: int) -> None:
    """Looks for the end marker, which Pillow does not miss when all rows are there."""
    for _ in range(MAX_SEGMENTS):
        found = _NEXT_MARKER.search(data, start)
        if found is None or found[0][1] == _END_OF_IMAGE:
            break
        start = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    if found is None or found[0][1] != _END_OF_IMAGE:
        _refuse_jpeg(len(data), "it is cut short, for it has no end marker")


def _is_essential(segment: _Segment, data: bytes) -> bool:
    """Whether a segment is a table, or libjpeg takes the colour space from it."""
    if segment.marker < 0xE0:
        return True
    if segment.marker not in _COLOUR_SEGMENTS:
        return False
    prefix, size = _COLOUR_SEGMENTS[segment.marker]
    body = data[segment.start + 4 : segment.end]
    return body.startswith(prefix) and len(body) >= size


def _png_header(data: bytes) -> _Declared:
    header = data[8:33]
    if len(header) < 25 or header[:8] != PNG_HEADER_START:
        _refuse_png(len(data), "it does not begin with an IHDR chunk of 13 bytes")
    width, height, depth, colour, compression, filtering, interlace = struct.unpack_from(
        ">IIBBBBB", header, 8
    )
    known = (compression, filtering) == (0, 0) and interlace in (0, 1)
    if depth not in _PNG_DEPTHS.get(colour, ()) or not known:
        _refuse_png(len(data), f"depth, colour and methods {header[16:21].hex(' ')} do not exist")
    return _Declared("PNG", height, width)


def _refuse_png(size: int, reason: str) -> NoReturn:
    raise InvalidRequestError(f"image of {size} bytes is not a whole PNG file: {reason}")


def _png_essence(data: bytes) -> bytes:
    """Returns the file without its metadata, its palette padded with black, its rows inflated.

    Profiles and texts can be bombs of their own, and an animation's chunks change what Pillow
    reads. It does not look at the end of the compressed stream either.
    """
    (first, header), *chunks = _png_chunks(data)
    names = [name for name, _ in chunks]
    palettes, rows = names.count(b"PLTE"), names.count(b"IDAT")
    order = [b"PLTE"] * palettes + [b"IDAT"] * rows + [b"IEND"]
    if first != b"IHDR" or names != order or palettes > 1 or rows < 1:
        _refuse_png(len(data), "its chunks must be IHDR, at most one PLTE, IDAT and IEND")
    file = io.BytesIO()
    file.write(PNG_MAGIC)
    _write_chunk(file, b"IHDR", header)
    depth, colour = header[8:10]
    if colour == _PALETTE_COLOUR:
        palette = chunks[0][1] if palettes else b""
        if not 3 <= len(palette) <= 3 << depth or len(palette) % 3:
            _refuse_png(len(data), f"its palette has {len(palette)} bytes for {depth} bits a pixel")
        _write_chunk(file, b"PLTE", palette.ljust(3 << depth, b"\0"))
    for stored in _inflate(chunks[palettes:-1], _inflated_size(header), len(data)):
        _write_chunk(file, b"IDAT", stored)
    _write_chunk(file, b"IEND", b"")
    return file.getvalue()


def _inflate(chunks: list[tuple[bytes, bytes]], expected: int, size: int) -> Iterator[bytes]:
    """Yields IDAT chunks' bodies as a zlib stream that is not compressed.

    Args:
        chunks: names and bodies of the file's IDAT chunks.
        expected: bytes that they must inflate to.
        size: the file's, for messages.
    """
    inflator, store = zlib.decompressobj(wbits=0), zlib.compressobj(level=0)
    inflated = 0
    for _, body in chunks:
        for start in range(0, len(body), _INFLATED_AT_ONCE):
            try:
                part = inflator.decompress(
                    body[start : start + _INFLATED_AT_ONCE], expected + 1 - inflated
                )
            except zlib.error as error:
                _refuse_png(size, f"its rows are damaged: {error}")
            inflated += len(part)
            if inflated > expected or inflator.unused_data:
                _refuse_png(size, f"its rows have more than the {expected} bytes that it declares")
            yield store.compress(part)
    if not inflator.eof or inflated < expected:
        _refuse_png(size, f"its rows are cut short: {inflated} of {expected} bytes")
    yield store.flush()


def _inflated_size(header: bytes) -> int:
    """Computes how many bytes a PNG's rows have, filter bytes included, from its IHDR chunk."""
    width, height, depth, colour = struct.unpack_from(">IIBB", header)
    size = 0
    for column, row, column_step, row_step in _INTERLACED if header[12] else _NOT_INTERLACED:
        columns = -((column - width) // column_step)  # rounded up
        rows = -((row - height) // row_step)
        if columns > 0 and rows > 0:
            size += rows * (1 + (columns * depth * _PNG_CHANNELS[colour] + 7) // 8)
    return size


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields name and body of the critical chunks, checksums checked, up to IEND."""
    position, view = len(PNG_MAGIC), memoryview(data)
    for _ in range(MAX_CHUNKS):
        size = int.from_bytes(data[position : position + 4], "big")
        name = data[position + 4 : position + 8]
        end = position + 8 + size
        if len(data) < end + 4:
            _refuse_png(len(data), "it ends inside a chunk")
        if not (name.isalpha() and name.isascii()):
            _refuse_png(len(data), f"chunk name {name!r} at {position} is not four letters")
        if name[:1].isupper():
            if zlib.crc32(view[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
                _refuse_png(len(data), f"chunk {name.decode()} has a wrong checksum")
            yield name, data[position + 8 : end]
        if name == b"IEND":
            return
        position = end + 4
    _refuse_png(len(data), f"it has no IEND chunk among its first {MAX_CHUNKS}")


def _write_chunk(file: io.BytesIO, name: bytes, body: bytes) -> None:
    file.write(struct.pack(">I", len(body)))
    file.write(name)
    file.write(body)
    file.write(struct.pack(">I", zlib.crc32(body, zlib.crc32(name))))


def _open(essence: bytes, declared: _Declared) -> "Image":
    """Lets Pillow decode a file.

    Raises:
        InvalidRequestError: Pillow found another size than the one that was checked.
        Exception: of almost any class, where the file is damaged.
    """
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    reader = JpegImageFile if declared.format == "JPEG" else PngImageFile
    image = reader(io.BytesIO(essence))
    if image.size != (declared.width, declared.height):
        raise InvalidRequestError(
            f"{declared.format} declares two sizes: {declared.height} x {declared.width} and "
            f"{image.height} x {image.width} pixels"
        )
    image.load()
    return image


def _turn(image: "Image", orientation: int) -> "Image":
    """Applies an Exif orientation."""
    from PIL.Image import Transpose

    if orientation in TRANSPOSED:
        image = image.transpose(Transpose.TRANSPOSE)
    if orientation in MIRRORED_COLUMNS:
        image = image.transpose(Transpose.FLIP_LEFT_RIGHT)
    if orientation in MIRRORED_ROWS:
        image = image.transpose(Transpose.FLIP_TOP_BOTTOM)
    return image


def _to_rgb(image: "Image") -> npt.NDArray[np.uint8]:
    """Turns pixels of any mode into uint8 [H, W, 3]."""
    if image.mode == "CMYK":
        return _cmyk_to_rgb(image)
    if image.mode == "I;16":
        high_byte = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(high_byte[:, :, np.newaxis], 3, axis=2)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _cmyk_to_rgb(image: "Image") -> npt.NDArray[np.uint8]:
    """Mixes inks as TensorFlow does; Pillow mixes in another order of rounding."""
    # Pillow inverts all inks, as if every file had an Adobe segment.
    light: npt.NDArray[np.uint8] = np.asarray(image)
    if "adobe_transform" in image.info:
        light = ~light
    mixed = light[:, :, :3].astype(np.uint16) * light[:, :, 3:] // 255
    return mixed.astype(np.uint8)
