"""A line of JSON for each call, whichever protocol it came by."""

from __future__ import annotations

import json
import time

from serving.core.file_writer import FileWriter

_LONGEST_ERROR = 256


class AccessLog:
    """Writes the lines.

    Args:
        writer: Where to.
    """

    def __init__(self, writer: FileWriter) -> None:
        self._writer = writer

    def write(
        self,
        *,
        peer: str,
        method: str,
        code: str,
        seconds: float,
        error: str = "",
        traceparent: str = "",
    ) -> None:
        """Writes one line; what is empty is left out.

        Args:
            peer: The caller's address.
            method: Path of the gRPC method, or HTTP's method and path.
            code: Name of the gRPC status, or number of the HTTP status.
            seconds: From the first byte to the answer.
            error: Text of an error.
            traceparent: Header of this name, by W3C's Trace Context.
        """
        fields = {
            "time": round(time.time(), 3),
            "peer": peer,
            "method": method,
            "code": code,
            "ms": round(seconds * 1e3, 3),
            "error": error[:_LONGEST_ERROR],
            "traceparent": traceparent,
        }
        kept = {name: value for name, value in fields.items() if value != ""}
        self._writer.write(json.dumps(kept).encode() + b"\n")

    def close(self) -> None:
        """Writes what waits."""
        self._writer.close()
