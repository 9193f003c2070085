"""Bodies of requests: read up to a limit, and unpacked up to another."""

from __future__ import annotations

import zlib

from aiohttp import web

from protocol.errors import ResourceExhaustedError

UNPACKED_BYTES = 100 * 1024 * 1024
_GZIP = 16 + zlib.MAX_WBITS


class BodyTooLargeError(ResourceExhaustedError):
    """A body is longer than the server takes: 413 in HTTP.

    Args:
        limit: In bytes.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The body of the request is larger than --rest_api_max_body_bytes={limit}"
        )


async def read_body(request: web.BaseRequest, limit: int) -> bytes:
    """Reads a body as it was sent.

    Args:
        request: Of which nothing was read yet.
        limit: Largest number of bytes.

    Raises:
        BodyTooLargeError: It is larger.
    """
    if (request.content_length or 0) > limit:
        raise BodyTooLargeError(limit)
    parts: list[bytes] = []
    size = 0
    async for part in request.content.iter_any():
        size += len(part)
        if size > limit:
            raise BodyTooLargeError(limit)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def is_packed(request: web.BaseRequest) -> bool:
    """Whether a body has to be unpacked."""
    return "gzip" in request.headers.get("Content-Encoding", "")


def unpack(packed: bytes, limit: int = UNPACKED_BYTES) -> bytes:
    """Unpacks gzip; never more than `limit` bytes are held.

    Returns:
        The content; nothing where the data is damaged, cut short or unpacks to more than `limit`,
        which TensorFlow Serving reads as an empty document.
    """
    unpacker = zlib.decompressobj(_GZIP)
    try:
        content = unpacker.decompress(packed, limit)
        surplus = b"" if unpacker.eof else unpacker.decompress(unpacker.unconsumed_tail, 1)
    except zlib.error:
        return b""
    return content if unpacker.eof and not surplus else b""
