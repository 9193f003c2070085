"""Image files, whole, odd and hostile, that both decoders are tested with."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from protocol.images import PNG_MAGIC

BYTE_ORDERS = {"II": "<", "MM": ">"}
ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


def photo(height: int = 19, width: int = 23, seed: int = 0) -> np.ndarray:
    """A smooth image without any symmetry, uint8 [H, W, 3]."""
    steps = np.random.default_rng(seed).normal(0, 3, (height, width, 3))
    return np.clip(steps.cumsum(0).cumsum(1) + 128, 0, 255).astype(np.uint8)


def encode(image: np.ndarray | Image.Image, kind: str, **options: Any) -> bytes:
    """Lets Pillow encode an image."""
    file = io.BytesIO()
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(file, kind, **options)
    return file.getvalue()


def jpeg(**options: Any) -> bytes:
    return encode(photo(), "JPEG", **options)


def cmyk_jpeg() -> bytes:
    inks = np.random.default_rng(0).integers(0, 256, (19, 23, 4), dtype=np.uint8)
    return encode(Image.fromarray(inks, "CMYK"), "JPEG", quality=100)


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def with_segments(data: bytes, *segments: bytes) -> bytes:
    """Puts segments at the beginning of a JPEG."""
    return data[:2] + b"".join(segments) + data[2:]


def patched(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def frame(data: bytes) -> int:
    """Finds a JPEG's frame header: FF C0, length (2), bits, height (2), width (2), components."""
    return max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))


def exif(
    orientation: int,
    order: str = "II",
    kind: int = 3,
    count: int = 1,
    start: int = 8,
    entries: int = 2,
    magic: bytes | None = None,
) -> bytes:
    """An Exif segment: a directory with an unrelated entry before the orientation."""
    sign = BYTE_ORDERS[order]
    return segment(
        0xE1,
        b"Exif\0\0"
        + (magic or struct.pack(f"{sign}2sH", order.encode(), 42))
        + struct.pack(f"{sign}I", start)
        + struct.pack(f"{sign}H", entries)
        + struct.pack(f"{sign}HHII", 0x0100, 4, 1, 640)
        + struct.pack(f"{sign}HHIHH", 0x0112, kind, count, orientation, 0)
        + struct.pack(f"{sign}I", 0),
    )


def malformed_exif() -> dict[str, bytes]:
    """Exif segments that mean orientation 1."""
    whole = exif(6)
    return {
        "orientation 0": exif(0),
        "orientation 9": exif(9, "MM"),
        "orientation 65535": exif(65535),
        "type long": exif(6, kind=4),
        "two values": exif(6, count=2),
        "no such entry": exif(6, entries=1),
        "no entries": exif(6, entries=0),
        "byte order unknown": exif(6, magic=b"XX*\0"),
        "byte order mixed": exif(6, magic=b"II\0*"),
        "directory far away": exif(6, start=0xFFFFFFFF),
        "directory at the end": exif(6, start=len(whole) - 10 - 2),
        "directory one beyond the end": exif(6, start=len(whole) - 10 - 1),
        "directory in the middle": exif(6, start=9),
        "prefix alone": segment(0xE1, b"Exif\0\0"),
        "half a prefix": segment(0xE1, b"Exif"),
        "header cut": segment(0xE1, whole[4:17]),
        "directory cut": segment(0xE1, whole[4:20]),
        "entry cut": segment(0xE1, whole[4:40]),
        "first segment decides": segment(0xE1, b"Exif\0\0II*\0") + whole,
        "not in APP1": segment(0xE2, whole[4:]),
    }


def well_formed_exif() -> dict[str, bytes]:
    """Exif segments, odd but valid, that mean orientation 6."""
    return {
        "more entries announced than there are": exif(6, entries=65535),
        "after another APP1": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0") + exif(6, "MM"),
        "before another orientation": exif(6) + exif(3),
        "after fill bytes": b"\xff\xff\xff" + exif(6),
    }


def chunk(name: bytes, body: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(name + body) if checksum is None else checksum
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)


def png_header(
    height: int, width: int, depth: int = 8, colour: int = 0, interlace: int = 0
) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


def png(header: bytes, rows: bytes, *extra: bytes, window_bits: int = 15) -> bytes:
    """A PNG of filtered rows, with chunks between its header and its image data."""
    stream = zlib.compress(rows, wbits=window_bits)
    return b"".join((PNG_MAGIC, header, *extra, chunk(b"IDAT", stream), chunk(b"IEND", b"")))


def packed_rows(samples: np.ndarray, depth: int) -> bytes:
    """Packs samples [H, W, C] as unfiltered PNG rows."""
    if depth == 16:
        body = samples.astype(">u2").view(np.uint8).reshape(len(samples), -1)
    else:
        flat = samples.reshape(len(samples), -1).astype(np.uint8)
        bits = np.unpackbits(flat[:, :, None], axis=2)[:, :, 8 - depth :]
        body = np.packbits(bits.reshape(len(samples), -1), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in body)


def any_png(depth: int, colour: int, interlaced: bool, palette_size: int = 0) -> bytes:
    """A PNG of random samples of any kind."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    rng = np.random.default_rng(depth + 16 * colour)
    samples = rng.integers(0, palette_size or 2**depth, (11, 13, channels))
    parts = [samples]
    if interlaced:
        parts = [samples[row::down, column::right] for column, row, right, down in ADAM7]
    rows = b"".join(packed_rows(part, depth) for part in parts if part.size)
    palette = rng.integers(0, 256, 3 * palette_size, dtype=np.uint8).tobytes()
    extra = [chunk(b"PLTE", palette)] if palette_size else []
    return png(png_header(11, 13, depth, colour, int(interlaced)), rows, *extra)


def good_jpegs() -> dict[str, bytes]:
    plain, inks = jpeg(), cmyk_jpeg()
    adobe = inks.index(b"\xff\xee")
    files = {
        "grey": encode(photo()[:, :, 0], "JPEG"),
        "RGB without a colour transform": jpeg(keep_rgb=True),
        "without JFIF": plain[:2] + plain[20:],
        "restart markers": jpeg(restart_marker_rows=1),
        "many tables": jpeg(optimize=True, quality=100),
        "CMYK of Adobe": inks,
        "YCCK of Adobe": patched(inks, adobe + 15, b"\2"),
        "CMYK": inks[:adobe] + inks[adobe + 16 :],
        "trailing bytes": plain + b"\xff\xd8\xff and more",
        "thumbnail": with_segments(plain, segment(0xE1, b"Exif\0\0" + plain)),
        "metadata that Pillow stumbles over": with_segments(
            plain, segment(0xE0, b"JFIF\0"), segment(0xEE, b"Adobe"), segment(0xE2, b"MPF\0")
        ),
        "fill bytes": with_segments(plain, b"\xff" * 50),
        "1023 segments": with_segments(plain, segment(0xFE, b"") * 1018),
    }
    for name, subsampling in (("4:4:4", 0), ("4:2:2", 1), ("4:2:0", 2)):
        for progressive in (False, True):
            options = {"subsampling": subsampling, "progressive": progressive}
            files[f"{name} {'progressive' if progressive else 'baseline'}"] = jpeg(**options)
    return files


def good_pngs() -> dict[str, bytes]:
    kinds = [(depth, 0) for depth in (1, 2, 4, 8, 16)]
    kinds += [(depth, colour) for colour in (2, 4, 6) for depth in (8, 16)]
    files = {
        f"{depth} bits, colour type {colour}{', interlaced' * interlaced}": any_png(
            depth, colour, interlaced
        )
        for depth, colour in kinds
        for interlaced in (False, True)
    }
    for depth in (1, 2, 4, 8):
        for interlaced in (False, True):
            name = f"palette of {depth} bits{', interlaced' * interlaced}"
            files[name] = any_png(depth, 3, interlaced, 2**depth)
    index_outside = png(png_header(1, 3, 8, 3), b"\0\0\1\2", chunk(b"PLTE", bytes(range(1, 7))))
    transparent = chunk(b"PLTE", bytes(range(1, 10))) + chunk(b"tRNS", b"\0\x80")
    grey = png_header(2, 2)
    return files | {
        "index outside the palette": index_outside,
        "transparent palette": png(png_header(1, 3, 8, 3), b"\0\0\1\2", transparent),
        "transparent grey": png(grey, b"\0ab\0cd", chunk(b"tRNS", b"\0a")),
        "all filters": encode(photo(), "PNG"),
        "gamma": png(grey, b"\0ab\0cd", chunk(b"gAMA", struct.pack(">I", 100_000))),
        "significant bits": png(grey, b"\0ab\0cd", chunk(b"sBIT", b"\3")),
        "background": png(grey, b"\0ab\0cd", chunk(b"bKGD", b"\0\1")),
        "palette beside RGB": png(
            png_header(1, 1, 8, 2), b"\0abc", chunk(b"PLTE", b"xyz"), chunk(b"tRNS", b"\0a\0b\0c")
        ),
        "palette beside grey": png(grey, b"\0ab\0cd", chunk(b"PLTE", b"xyz")),
        "damaged metadata": png(grey, b"\0ab\0cd", chunk(b"tEXt", b"k\0v", checksum=0)),
        "text bomb": png(grey, b"\0ab\0cd", chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2**24)))),
        "profile bomb": png(
            grey, b"\0ab\0cd", chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(2**24)))
        ),
        "animated": encode(
            Image.fromarray(photo()), "PNG", save_all=True, append_images=[Image.new("RGB", (9, 9))]
        ),
        "metadata of 9 MB": png(grey, b"\0ab\0cd", chunk(b"prIv", bytes(9_000_000))),
        "Exif": png(grey, b"\0ab\0cd", chunk(b"eXIf", exif(6)[10:])),
        "empty IDAT": png(grey, b"\0ab\0cd", chunk(b"IDAT", b"")),
        "trailing bytes": png(grey, b"\0ab\0cd") + b"and more",
        "zlib window of 512 bytes": png(png_header(99, 99), bytes(99 * 100), window_bits=9),
    }


def bad_files() -> dict[str, tuple[bytes, str]]:
    """Files that both decoders refuse, with what the host's message says."""
    plain, baseline = png(png_header(2, 2), b"\0ab\0cd"), jpeg()
    head = frame(baseline)
    scan = baseline.index(b"\xff\xda")
    image = Image.fromarray(photo())
    return _foreign_files(image) | {
        "JPEG magic alone": (b"\xff\xd8\xff", "ends before its frame header"),
        "PNG magic alone": (PNG_MAGIC, "does not begin with an IHDR"),
        "JPEG half": (baseline[: (scan + len(baseline)) // 2], "no end marker"),
        "JPEG cut in a table": (baseline[:90], "ends before its frame header"),
        "JPEG that ends with another marker": (baseline[:-1] + b"\xdd", "no end marker"),
        "progressive half": (jpeg(progressive=True)[:450], "no end marker"),
        "JPEG without scan": (baseline[:scan] + b"\xff\xd9", "not a whole JPEG"),
        "JPEG without tables": (baseline[:2] + baseline[head:], "not a whole JPEG"),
        "JPEG of 12 bits": (patched(baseline, head + 4, b"\x0c"), "got 12 bits and 3 comp"),
        "JPEG of 2 components": (patched(baseline, head + 9, b"\2"), "got 8 bits and 2 comp"),
        "lossless JPEG": (patched(baseline, head, b"\xff\xc3"), "start no known segment"),
        "arithmetic JPEG": (patched(baseline, head, b"\xff\xc9"), "start no known segment"),
        "JPEG with garbage": (
            with_segments(baseline, segment(0xFE, b"") + b"garbage"),
            "67 61 72 62 at 6 start no",
        ),
        "JPEG with 1024 segments": (
            with_segments(baseline, segment(0xFE, b"") * 1024),
            "no frame header in its first 1024 segments",
        ),
        "JPEG of fill bytes": (b"\xff\xd8" + b"\xff" * 2**20, "no frame header in its first 1024"),
        "JPEG of two sizes": (
            baseline[:scan] + patched(baseline[head:scan], 5, b"\0\5") + baseline[scan:],
            "not a whole JPEG|two sizes",
        ),
        "JPEG with 65 scans": (baseline[:-2] + baseline[scan : scan + 14] * 64 + b"\xff\xd9", "65"),
        "JPEG without rows": (patched(baseline, head + 5, b"\0\0"), "declares 0 x 23 pixels"),
        "JPEG bomb": (patched(baseline, head + 5, b"\xff\x00\xff\x00"), "declares 65280 x 65280"),
        "PNG without rows": (png(png_header(0, 2), b""), "declares 0 x 2 pixels"),
        "PNG too wide": (png(png_header(1, 65_501), bytes(65_502)), "declares 1 x 65501"),
        "PNG of negative size": (png(png_header(2, 2**32 - 1), b""), "declares 2 x 4294967295"),
        "PNG bomb": (png(png_header(8193, 8192), b""), "at most 67108864 pixels"),
        "PNG of 3 bits": (png(png_header(2, 2, 3), b"\0a\0b"), "do not exist"),
        "PNG of unknown interlacing": (png(png_header(2, 2, 8, 0, 2), b"\0ab\0cd"), "do not exist"),
        "PNG of unknown filter": (png(png_header(2, 2), b"\7ab\0cd"), "not a whole PNG"),
        "PNG without end": (plain[:-12], "ends inside a chunk"),
        "PNG half": (plain[:50], "ends inside a chunk"),
        "PNG with less rows": (png(png_header(3, 2), b"\0ab\0cd"), "cut short: 6 of 9 bytes"),
        "PNG with a wrong checksum": (patched(plain, 45, b"~"), "IDAT has a wrong checksum"),
        "PNG with a wrong header checksum": (patched(plain, 30, b"~"), "IHDR has a wrong check"),
        "PNG with a chunk of 4 GB": (
            png(png_header(2, 2), b"\0ab\0cd", b"\xff\xff\xff\xfftEXt"),
            "ends inside a chunk",
        ),
        "PNG of Apple": (
            patched(plain, 8, chunk(b"CgBI", b"abcd")) + plain[8:],
            "does not begin with an IHDR",
        ),
        "PNG with an unknown critical chunk": (
            png(png_header(2, 2), b"\0ab\0cd", chunk(b"CRIT", b"")),
            "its chunks must be IHDR",
        ),
        "PNG without palette": (png(png_header(1, 1, 8, 3), b"\0\0"), "palette has 0 bytes"),
        "PNG with half a palette entry": (
            png(png_header(1, 1, 8, 3), b"\0\0", chunk(b"PLTE", b"ab")),
            "palette has 2 bytes for 8 bits",
        ),
        "PNG without image data": (
            PNG_MAGIC + png_header(2, 2) + chunk(b"IEND", b""),
            "its chunks must be IHDR",
        ),
        "PNG whose stream has no end": (
            PNG_MAGIC
            + png_header(2, 2)
            + chunk(b"IDAT", zlib.compress(b"\0ab\0cd")[:-4])
            + chunk(b"IEND", b""),
            "cut short: 6 of 6 bytes",
        ),
        "PNG whose stream is garbage": (
            PNG_MAGIC + png_header(2, 2) + chunk(b"IDAT", b"garbage") + chunk(b"IEND", b""),
            "rows are damaged",
        ),
    }


def _foreign_files(image: Image.Image) -> dict[str, tuple[bytes, str]]:
    return {
        "nothing": (b"", "must be a JPEG or PNG file, got no bytes"),
        "text": (b"hello", r"got 5 bytes that begin with b'hello'"),
        "GIF": (encode(image, "GIF"), "got a GIF file"),
        "BMP": (encode(image, "BMP"), "got a BMP file"),
        "WEBP": (encode(image, "WEBP"), "got a WEBP file"),
        "TIFF": (encode(image, "TIFF"), "got a TIFF file"),
        "HEIC": (b"\0\0\0\x18ftypheic", "got a HEIC, AVIF or MP4 file"),
    }


def files_for_the_host_to_refuse() -> dict[str, tuple[bytes, str]]:
    """Damaged outside the pixels, which TensorFlow may not notice, or expensive on the host."""
    plain, baseline = png(png_header(2, 2), b"\0ab\0cd"), jpeg()
    stream = zlib.compress(b"\0ab\0cd")
    start, end = PNG_MAGIC + png_header(2, 2), chunk(b"IEND", b"")
    late = baseline.index(b"\xff\xda")
    return {
        "end marker cut in half": (baseline[:-1], "no end marker"),
        "wrong checksum of the rows": (
            start + chunk(b"IDAT", stream[:-1] + b"~") + end,
            "rows are damaged: .*incorrect data check",
        ),
        "more rows": (png(png_header(2, 2), b"\0ab\0cd\0ef"), "more than the 6 bytes"),
        "rows that are a bomb": (png(png_header(2, 2), bytes(2**24)), "more than the 6 bytes"),
        "bytes after the rows": (
            start + chunk(b"IDAT", stream + b"more") + end,
            "more than the 6 bytes",
        ),
        "image data in two places": (
            start + chunk(b"IDAT", stream) + chunk(b"tEXt", b"k\0v") + plain[33:],
            "more than the 6 bytes",
        ),
        "70,000 chunks": (
            png(png_header(2, 2), b"\0ab\0cd", chunk(b"prIv", b"") * 70_000),
            "no IEND chunk among its first 65536",
        ),
        "1024 segments after the frame header": (
            baseline[:late] + segment(0xFE, b"") * 1024 + baseline[late:],
            "no end marker",
        ),
        "a mebibyte of 0xFF": (baseline[:late] + b"\xff" * 2**20, "no end marker"),
    }


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Damages a file in one to three places, mostly near its beginning."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        reach = len(out) if rng.random() < 0.3 else min(len(out), 200)
        place, size = int(rng.integers(reach + 1)), int(rng.integers(1, 9))
        noise = rng.integers(0, 256, size, dtype=np.uint8).tobytes()
        match rng.integers(5):
            case 0:
                out[place : place + 1] = noise[:1]
            case 1:
                out[place : place + size] = noise
            case 2:
                out[place:place] = noise
            case 3:
                del out[place : place + size]
            case 4:
                del out[-size:]
    return with_checksums(bytes(out)) if rng.random() < 0.7 else bytes(out)


def with_checksums(data: bytes) -> bytes:
    """Corrects the checksums of a PNG's chunks, so that damage gets past them."""
    if not data.startswith(PNG_MAGIC):
        return data
    out, start = bytearray(data), len(PNG_MAGIC)
    while start + 12 <= len(out):
        end = start + 8 + int.from_bytes(out[start : start + 4], "big")
        if end + 4 <= len(out):
            out[end : end + 4] = struct.pack(">I", zlib.crc32(out[start + 4 : end]))
        start = end + 4
    return bytes(out)
