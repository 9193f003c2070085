"""Which texts commands take, and in which groups."""

import argparse
import os
from pathlib import Path

import pytest

from clients.commands.options import UsageError
from clients.commands.texts import line_count, text_batches


def arguments(*texts: str, file: Path | None = None, size: int = 2) -> argparse.Namespace:
    return argparse.Namespace(texts=list(texts), file=file, batch_size=size)


def test_texts_come_in_batches() -> None:
    assert list(text_batches(arguments("a", "b", "c"))) == [["a", "b"], ["c"]]


def test_lines_come_in_batches(tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_bytes(b"a\r\n\nc \xff\nd\n")
    assert list(text_batches(arguments(file=file))) == [["a", ""], ["c \ufffd", "d"]]


def test_other_things_are_refused_at_once(tmp_path: Path) -> None:
    for wrong in (arguments(), arguments("a", file=tmp_path)):
        with pytest.raises(UsageError, match="expected either texts"):
            text_batches(wrong)
    with pytest.raises(UsageError, match="cannot read"):
        text_batches(arguments(file=tmp_path / "missing"))


@pytest.mark.parametrize(("content", "count"), [(b"", 0), (b"a\n", 1), (b"a\n\nb", 3), (b"\n", 1)])
def test_lines_are_counted_as_they_are_read(tmp_path: Path, content: bytes, count: int) -> None:
    file = tmp_path / "lines.txt"
    file.write_bytes(content)
    assert line_count(file) == count == sum(map(len, text_batches(arguments(file=file))))


def test_a_pipe_is_not_read_to_be_counted(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert line_count(tmp_path / "pipe") is None
