"""gRPC's messages in the body of a stream: length prefix, compression, limits.

Source: gRPC over HTTP/2, "Length-Prefixed-Message".
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from struct import Struct

from protocol.errors import InternalError, ResourceExhaustedError, ServiceError, UnimplementedError

PREFIX_BYTES = 5
IDENTITY, DEFLATE, GZIP = "identity", "deflate", "gzip"
ENCODINGS = (IDENTITY, DEFLATE, GZIP)

_PREFIX = Struct(">BI")
# Length of the message that is coming in, before its prefix was read.
_UNKNOWN = -1
_WINDOW_BITS = {DEFLATE: zlib.MAX_WBITS, GZIP: zlib.MAX_WBITS | 16}


def plain_message(body: bytes, limit: int) -> bytes | None:
    """Returns the message of a body that is one message, not packed; None if it is anything else.

    Raises:
        ResourceExhaustedError: The message is longer than the limit.
    """
    length = len(body) - PREFIX_BYTES
    if length < 0 or _PREFIX.unpack_from(body) != (0, length):
        return None
    if length > limit:
        raise too_large(length, limit)
    return body[PREFIX_BYTES:]


class MessageReader:
    """Cuts the body of a stream into messages.

    Args:
        encoding: what the caller's header `grpc-encoding` says.
        limit: most bytes of one message, packed or unpacked.
    """

    __slots__ = ("_chunks", "_encoding", "_length", "_limit", "_packed", "_size")

    def __init__(self, encoding: str, limit: int) -> None:
        self._encoding = encoding
        self._limit = limit
        self._chunks: list[bytes] = []
        self._size = 0
        self._length = _UNKNOWN
        self._packed = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Takes bytes of the body and yields the messages that they complete.

        Raises:
            ResourceExhaustedError: A message is longer than the limit.
            UnimplementedError: It is packed in a way that is not known.
            InternalError: It can not be unpacked, or its prefix makes no sense.
        """
        self._chunks.append(data)
        self._size += len(data)
        while self._is_complete():
            yield self._take()

    def check_end(self) -> None:
        """Checks that the body ended where a message did.

        Raises:
            InternalError: It ended within a message.
        """
        if self._size or self._length != _UNKNOWN:
            raise InternalError("The request's body ends within a message")

    def _is_complete(self) -> bool:
        if self._length == _UNKNOWN:
            if self._size < PREFIX_BYTES:
                return False
            self._read_prefix()
        return self._size >= self._length

    def _read_prefix(self) -> None:
        body = self._join()
        flag, length = _PREFIX.unpack_from(body)
        if flag > 1:
            raise InternalError(f"The compression flag of a message must be 0 or 1, got {flag}")
        if length > self._limit:
            raise too_large(length, self._limit)
        self._packed = flag == 1
        self._length = length
        self._keep(body[PREFIX_BYTES:] if len(body) > PREFIX_BYTES else b"")

    def _take(self) -> bytes:
        body, length = self._join(), self._length
        message = body if len(body) == length else body[:length]
        self._keep(body[length:])
        self._length = _UNKNOWN
        return unpack(message, self._encoding, self._limit) if self._packed else message

    def _join(self) -> bytes:
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    def _keep(self, rest: bytes) -> None:
        self._chunks = [rest] if rest else []
        self._size = len(rest)


def too_large(length: int, limit: int) -> ServiceError:
    """The error for a message beyond the limit, in gRPC's words."""
    return ResourceExhaustedError(f"Received message larger than max ({length} vs. {limit})")


def unpack(message: bytes, encoding: str, limit: int) -> bytes:
    """Decompresses a message.

    Args:
        message: Packed bytes.
        encoding: `gzip` or `deflate`; in `identity` nothing can be packed.
        limit: Most bytes of the result; no more is ever unpacked.

    Raises:
        InternalError: The bytes are not in this encoding.
        ResourceExhaustedError: The result is longer than the limit.
        UnimplementedError: The encoding is not known.
    """
    if encoding == IDENTITY:
        raise InternalError("A message is marked as compressed, but grpc-encoding is not given")
    if encoding not in _WINDOW_BITS:
        raise unknown_encoding(encoding)
    unpacker = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        result = unpacker.decompress(message, limit + 1)
    except zlib.error as error:
        raise InternalError(f"A message is not valid {encoding}: {error}") from error
    if len(result) > limit:
        raise too_large(len(result), limit)
    if not unpacker.eof:
        raise InternalError(f"A message of {encoding} ends too early")
    return result


def unknown_encoding(encoding: str) -> ServiceError:
    """The error for a `grpc-encoding` that is not served."""
    return UnimplementedError(
        f"grpc-encoding {encoding!r} is not supported; supported: {', '.join(ENCODINGS)}"
    )


def framed(message: bytes) -> bytes:
    """Puts the prefix of an unpacked message before it."""
    return _PREFIX.pack(0, len(message)) + message
