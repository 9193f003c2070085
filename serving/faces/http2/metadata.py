"""gRPC's headers: deadlines, custom metadata, status and its text.

Source: gRPC over HTTP/2, "Requests" and "Responses".
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote

import grpc

from protocol.errors import InternalError

Header = tuple[bytes, bytes]
Metadata = Sequence[tuple[str, str | bytes]]

_BINARY = "-bin"
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
# What stays as it is in grpc-message: printable ASCII without the percent sign.
_PLAIN = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
_TEXT = re.compile(rb"[\x20-\x7e]*")


def parse_timeout(value: bytes) -> float:
    """Reads `grpc-timeout`, in seconds.

    Raises:
        InternalError: It is not of the form that gRPC prescribes.
    """
    match = _TIMEOUT.fullmatch(value)
    if match is None:
        raise InternalError(f"grpc-timeout must be up to 8 digits and a unit, got {value!r}")
    return int(match[1]) * _UNIT_SECONDS[match[2]]


def custom_metadata(headers: Iterable[Header]) -> list[tuple[str, str | bytes]]:
    """Picks what callers add; values of names that end in `-bin` are decoded.

    Raises:
        InternalError: Such a value is not base64.
    """
    return [
        (name.decode("ascii"), _decoded(name.decode("ascii"), value))
        for name, value in headers
        if not _is_reserved(name)
    ]


def _is_reserved(name: bytes) -> bool:
    return name.startswith((b":", b"grpc-")) or name in (b"te", b"content-type")


def _decoded(name: str, value: bytes) -> str | bytes:
    if not name.endswith(_BINARY):
        return value.decode("ascii", "replace")
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error as error:
        raise InternalError(f"Metadata {name} is not base64: {error}") from error


def encoded_metadata(metadata: Metadata) -> list[Header]:
    """Writes metadata as headers; values that are no printable ASCII are left out."""
    headers = []
    for name, value in metadata:
        if name.endswith(_BINARY):
            raw = value.encode() if isinstance(value, str) else value
            headers.append((name.encode(), base64.b64encode(raw).rstrip(b"=")))
            continue
        text = value if isinstance(value, bytes) else value.encode("ascii", "replace")
        if _TEXT.fullmatch(text):
            headers.append((name.encode(), text))
    return headers


def status_trailers(code: grpc.StatusCode, message: str, metadata: Metadata = ()) -> list[Header]:
    """Writes the headers that end a call."""
    trailers = [(b"grpc-status", str(code.value[0]).encode())]
    if message:
        # Half of a surrogate pair has no UTF-8.
        text = quote(message, safe=_PLAIN, errors="replace")
        trailers.append((b"grpc-message", text.encode("ascii")))
    return trailers + encoded_metadata(metadata)
