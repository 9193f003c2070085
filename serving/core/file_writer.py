"""Appends to a file from a thread of its own, so that a slow or full disk holds up no request."""

from __future__ import annotations

import logging
import queue
import sys
import threading
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger(__name__)

_STANDARD_ERROR = "-"
_MOST_WAITING = 10_000


class FileWriter:
    """Writes pieces in order; drops them while the disk does not keep up, or can not be written.

    Args:
        path: The file, or `-` for standard error.
        rotate_bytes: A file this large is set aside as `path.1`, the one there as `path.2`, ...
        kept: How many files are kept beside the one that is written; older ones are deleted.
    """

    def __init__(self, path: str, rotate_bytes: int = 1 << 26, kept: int = 9) -> None:
        self._path = path
        self._rotate_bytes = rotate_bytes
        self._kept = kept
        self._waiting: queue.Queue[bytes | None] = queue.Queue(_MOST_WAITING)
        self._stream: BinaryIO | None = None
        self._size = 0
        self._problem = ""
        self.dropped = 0
        self._thread = threading.Thread(target=self._work, name="file-writer", daemon=True)
        self._thread.start()

    def write(self, piece: bytes) -> None:
        """Hands over a piece; never blocks."""
        try:
            self._waiting.put_nowait(piece)
        except queue.Full:
            self.dropped += 1

    def close(self, timeout_s: float = 5.0) -> None:
        """Writes what waits, and ends."""
        try:
            self._waiting.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _work(self) -> None:
        while (piece := self._waiting.get()) is not None:
            try:
                self._append(piece)
                self._problem = ""
            except OSError as error:
                self._give_up(error)
        self._end()

    def _end(self) -> None:
        try:
            if self._stream is not None:
                self._stream.flush()
        except OSError as error:
            self._give_up(error)
        if self._stream is not None and self._path != _STANDARD_ERROR:
            self._stream.close()

    def _append(self, piece: bytes) -> None:
        stream = self._open()
        stream.write(piece)
        if self._waiting.empty():
            stream.flush()
        self._size += len(piece)
        if self._size >= self._rotate_bytes and self._path != _STANDARD_ERROR:
            stream.close()
            self._stream = None
            self._rotate()

    def _open(self) -> BinaryIO:
        if self._stream is None:
            if self._path == _STANDARD_ERROR:
                self._stream = sys.stderr.buffer
            else:
                path = Path(self._path)
                path.parent.mkdir(parents=True, exist_ok=True)
                self._stream = path.open("ab")
                self._size = path.stat().st_size
        return self._stream

    def _rotate(self) -> None:
        files = [Path(self._path), *(Path(f"{self._path}.{n + 1}") for n in range(self._kept))]
        for older, newer in zip(files[:0:-1], files[-2::-1], strict=True):
            if newer.exists():
                newer.replace(older)

    def _give_up(self, error: OSError) -> None:
        self.dropped += 1
        if str(error) != self._problem:
            self._problem = str(error)
            log.error("Can not write %s: %s", self._path, error)
        stream, self._stream = self._stream, None
        if stream is not None and self._path != _STANDARD_ERROR:
            try:
                stream.close()
            except OSError:
                return
