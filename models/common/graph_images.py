"""Image files to pixels inside a TensorFlow graph.

The same answers as `protocol.images`, whose docstring defines them, with ops that the official
TensorFlow Serving image has. Where `protocol.images` raises InvalidRequestError, a run of the
graph fails with INVALID_ARGUMENT, and the whole batch with it: a server that merges requests
into batches has to look at each image before.

Pixels are equal, for both engines use libjpeg-turbo's accurate integer DCT. The exceptions:

- A progressive JPEG that ends before its last scans differs by up to 16 levels; what is filled
  in depends on the version of libjpeg-turbo.
- Damage outside the pixels, which the host refuses, may pass here: more rows than declared or a
  wrong checksum of all rows in a PNG, half an end marker in a JPEG.
- A PNG whose rows refer further back than the compression window that they declare is refused
  here, but not always by the host.
"""

from collections.abc import Callable
from typing import Any

from protocol.images import (
    EXIF_MARKER,
    EXIF_PREFIX,
    FRAME_MARKERS,
    JPEG_MAGIC,
    MAX_PIXELS,
    MAX_SCANS,
    MAX_SEGMENTS,
    MAX_SIDE,
    MIRRORED_COLUMNS,
    MIRRORED_ROWS,
    ORIENTATION_TAG,
    PNG_HEADER_START,
    PNG_MAGIC,
    SCAN_MARKER,
    SHORT_TYPE,
    TABLE_MARKERS,
    TRANSPOSED,
)

PARALLEL_ROWS = 8  # rows of a batch that may be in work at the same time

_HEAD_BYTES = 10  # of a JPEG segment: marker, length, and what follows up to the components
_PNG_HEADER_BYTES = 33  # magic number and the IHDR chunk with its checksum
_FILL_BYTE, _TABLE = 1, 2  # what a byte after 0xFF may announce before the frame header
_ENTRY_BYTES = 12  # of an Exif directory


def decode_each(image_bytes: Any, fn: Callable[[Any], Any], spec: Any) -> Any:
    """Decodes each file of a batch and applies a function to its pixels.

    Args:
        image_bytes: string [N]; the images may differ in size, N may be 0.
        fn: maps uint8 [H, W, 3] to a tensor or a structure of tensors.
        spec: `tf.TensorSpec` (or a structure of them) of what `fn` returns; its shapes must be
            fully known, so that results can be stacked and an empty batch has a shape.

    Returns:
        What `fn` returned, each tensor with a first axis of N.
    """
    import tensorflow as tf

    return tf.map_fn(
        lambda data: fn(decode_image(data)),
        image_bytes,
        fn_output_signature=spec,
        parallel_iterations=PARALLEL_ROWS,
    )


def decode_image(data: Any) -> Any:
    """Decodes a JPEG or PNG file.

    Args:
        data: string [], the file's bytes.

    Returns:
        uint8 [H, W, 3], RGB, upright. Running it fails with INVALID_ARGUMENT where the file is
        not a JPEG or PNG, too large, cut short or damaged.
    """
    import tensorflow as tf

    is_jpeg = tf.strings.substr(data, 0, len(JPEG_MAGIC)) == JPEG_MAGIC
    is_png = tf.strings.substr(data, 0, len(PNG_MAGIC)) == PNG_MAGIC
    with _required(
        is_jpeg | is_png,
        "image must be a JPEG or PNG file; bytes that came:",
        tf.strings.length(data),
    ):
        file = tf.io.decode_raw(data, tf.uint8)
    height, width, orientation = tf.cond(
        is_jpeg, lambda: _jpeg_header(file), lambda: _png_header(file)
    )
    smaller, larger = tf.minimum(height, width), tf.maximum(height, width)
    with _required(
        (smaller >= 1) & (larger <= MAX_SIDE) & (height * width <= MAX_PIXELS),
        f"image must have sides from 1 to {MAX_SIDE} and at most {MAX_PIXELS} pixels; "
        "height and width declared:",
        height,
        width,
    ):
        image = tf.io.decode_jpeg(  # the op decodes PNG as well
            data,
            channels=3,
            fancy_upscaling=True,
            try_recover_truncated=False,
            acceptable_fraction=1,
            dct_method="INTEGER_ACCURATE",
        )
    image = tf.cond(orientation == 1, lambda: image, lambda: _turn(image, orientation))
    return tf.ensure_shape(image, [None, None, 3])


def _required(condition: Any, expected: str, *found: Any) -> Any:
    """Returns a context whose ops run only after a condition was found true."""
    import tensorflow as tf

    check = tf.debugging.Assert(condition, [expected, *found])
    return tf.control_dependencies([check] if check is not None else [])  # None when eager


def _png_header(file: Any) -> tuple[Any, Any, Any]:
    """Reads a PNG's IHDR chunk.

    Args:
        file: uint8 [L], the whole file.

    Returns:
        Height and width, int64 [] each, and the orientation 1.
    """
    import tensorflow as tf

    header = _read(file, 0, _PNG_HEADER_BYTES)
    start = len(PNG_MAGIC)
    names_itself = tf.reduce_all(header[start : start + 8] == list(PNG_HEADER_START))
    with _required(
        names_itself & (tf.size(file) >= _PNG_HEADER_BYTES),
        "image is not a whole PNG file: it does not begin with an IHDR chunk; bytes that came:",
        tf.size(file),
    ):
        width, height = (_number(header[place : place + 4], 4) for place in (16, 20))
    return height, width, tf.constant(1, tf.int64)


def _jpeg_header(file: Any) -> tuple[Any, Any, Any]:
    """Reads a JPEG's segments up to its frame header.

    Args:
        file: uint8 [L], the whole file.

    Returns:
        Height, width and Exif orientation, int64 [] each.
    """
    import tensorflow as tf

    start, exif_start, exif_end = _find_frame_header(file)
    head = _read(file, start, _HEAD_BYTES)  # FF C0, length (2), bits, height (2), width (2), n
    is_frame = (head[0] == 0xFF) & tf.reduce_any(head[1] == sorted(FRAME_MARKERS))
    is_whole = (_number(head[2:4], 2) >= 8) & (start + _HEAD_BYTES <= tf.size(file))
    with _required(
        is_frame & is_whole,
        "image is not a whole baseline, extended or progressive JPEG file: no frame header at "
        "the byte where it must be:",
        start,
    ):
        bits, components = head[4], head[9]
    with _required(
        (bits == 8) & tf.reduce_any(components == [1, 3, 4]),
        "JPEG must have 8 bits a sample and 1, 3 or 4 components; bits and components found:",
        bits,
        components,
    ):
        scans = _count_scans(file[start:])
    with _required(
        scans <= MAX_SCANS, f"JPEG must have at most {MAX_SCANS} scans; scans found:", scans
    ):
        height, width = _number(head[5:7], 2), _number(head[7:9], 2)
    orientation = tf.cond(
        exif_end > 0,
        lambda: _exif_orientation(file[exif_start:exif_end]),
        lambda: tf.constant(1, tf.int64),
    )
    return height, width, orientation


def _find_frame_header(file: Any) -> tuple[Any, Any, Any]:
    """Walks over a JPEG's segments as long as they may stand before the frame header.

    Args:
        file: uint8 [L], the whole file.

    Returns:
        int32 [] each: where the walk ended; start and end of the TIFF structure in the first
        Exif segment, 0 and 0 where there is none.
    """
    import tensorflow as tf

    kinds = tf.constant(
        [_TABLE * (byte in TABLE_MARKERS) + _FILL_BYTE * (byte == 0xFF) for byte in range(256)]
    )

    def goes_on(start: Any, head: Any, *_: Any) -> Any:
        kind, length = kinds[head[1]], 256 * head[2] + head[3]
        known = (kind == _FILL_BYTE) | ((kind == _TABLE) & (length >= 2))
        return (head[0] == 0xFF) & known & (start + 4 <= tf.size(file))

    def advance(start: Any, head: Any, exif_start: Any, exif_end: Any) -> tuple[Any, ...]:
        is_fill_byte = kinds[head[1]] == _FILL_BYTE
        end = start + tf.where(is_fill_byte, 1, 2 + 256 * head[2] + head[3])
        body = start + _HEAD_BYTES
        is_exif = (head[1] == EXIF_MARKER) & tf.reduce_all(head[4:] == list(EXIF_PREFIX))
        is_first = is_exif & (body <= end) & (exif_end == 0)
        exif_start = tf.where(is_first, body, exif_start)
        exif_end = tf.where(is_first, end, exif_end)
        return end, _read(file, end, _HEAD_BYTES), exif_start, exif_end

    first = tf.constant(len(JPEG_MAGIC) - 1)
    start, _, exif_start, exif_end = tf.while_loop(
        goes_on,
        advance,
        (first, _read(file, first, _HEAD_BYTES), tf.constant(0), tf.constant(0)),
        maximum_iterations=MAX_SEGMENTS - 1,
    )
    return start, exif_start, exif_end


def _count_scans(frames: Any) -> Any:
    """Counts the scan markers, int32 [], from a JPEG's frame header uint8 [L] on."""
    import tensorflow as tf

    is_scan = (frames[:-1] == 0xFF) & (frames[1:] == SCAN_MARKER)
    return tf.math.count_nonzero(is_scan, dtype=tf.int32)


def _exif_orientation(tiff: Any) -> Any:
    """Finds the orientation in an Exif segment's TIFF structure.

    Args:
        tiff: uint8 [L].

    Returns:
        int64 [], 1 to 8; 1 where there is none, or anything is malformed.
    """
    import tensorflow as tf

    order = _read(tf.pad(tiff, [[0, 8]]), 0, 4)
    is_big = tf.reduce_all(order == list(b"MM\0*"))
    is_little = tf.reduce_all(order == list(b"II*\0"))
    return tf.cond(
        (is_big | is_little) & (tf.size(tiff) >= 8),
        lambda: _orientation_entry(tf.cast(tiff, tf.int32), is_big),
        lambda: tf.constant(1, tf.int64),
    )


def _orientation_entry(tiff: Any, is_big: Any) -> Any:
    """Finds the orientation in the first directory of a TIFF structure.

    Args:
        tiff: int32 [L], its bytes; L is at least 8.
        is_big: bool [], whether numbers begin with their highest byte.

    Returns:
        int64 [], 1 to 8; 1 where there is no such entry, or anything is malformed.
    """
    import tensorflow as tf

    size = tf.size(tiff, tf.int64)
    start = _number(tiff[4:8], 4, is_big)
    in_reach = start + 2 <= size
    start = tf.where(in_reach, start, 0)
    entries = _number(tiff[start : start + 2], 2, is_big)
    entries = tf.where(in_reach, tf.minimum(entries, (size - start - 2) // _ENTRY_BYTES), 0)
    table = tiff[start + 2 : start + 2 + _ENTRY_BYTES * entries]
    table = tf.reshape(table, [-1, _ENTRY_BYTES])  # tag (2), type (2), count (4), value (4)
    is_orientation = (
        (_number(table[:, 0:2], 2, is_big) == ORIENTATION_TAG)
        & (_number(table[:, 2:4], 2, is_big) == SHORT_TYPE)
        & (_number(table[:, 4:8], 4, is_big) == 1)
    )
    values = tf.boolean_mask(_number(table[:, 8:10], 2, is_big), is_orientation)
    value = tf.reduce_sum(values[:1])  # 0 where there is no entry
    return tf.where((value >= 1) & (value <= 8), value, 1)


def _turn(image: Any, orientation: Any) -> Any:
    """Applies an Exif orientation (int64 []) to an image [H, W, C]."""
    import tensorflow as tf

    def turn_if_one_of(orientations: frozenset[int], turn: Callable[[Any], Any]) -> Any:
        matches = tf.reduce_any(orientation == sorted(orientations))
        return tf.cond(matches, lambda: turn(image), lambda: image)

    image = turn_if_one_of(TRANSPOSED, lambda pixels: tf.transpose(pixels, [1, 0, 2]))
    image = turn_if_one_of(MIRRORED_COLUMNS, lambda pixels: tf.reverse(pixels, [1]))
    return turn_if_one_of(MIRRORED_ROWS, lambda pixels: tf.reverse(pixels, [0]))


def _read(file: Any, start: Any, size: int) -> Any:
    """Reads bytes as int32 [size]; beyond the end of the file its last byte is repeated."""
    import tensorflow as tf

    places = tf.minimum(start + tf.range(size), tf.size(file) - 1)
    return tf.cast(tf.gather(file, places), tf.int32)


def _number(digits: Any, size: int, is_big: Any = True) -> Any:
    """Makes unsigned numbers, int64 [...], of their bytes [..., size] in either order."""
    import tensorflow as tf

    weights = [256**place for place in range(size)]
    weights = tf.where(is_big, tf.constant(weights[::-1], tf.int64), tf.constant(weights, tf.int64))
    return tf.reduce_sum(tf.cast(digits, tf.int64) * weights, axis=-1)
