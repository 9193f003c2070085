import time
from pathlib import Path

import pytest

from serving.core.file_writer import FileWriter


def test_pieces_are_written_in_order(tmp_path) -> None:
    writer = FileWriter(str(tmp_path / "new" / "log"))
    for number in range(1000):
        writer.write(b"%d\n" % number)
    writer.close()
    assert (tmp_path / "new" / "log").read_text().split() == [str(n) for n in range(1000)]


def test_a_file_is_continued(tmp_path) -> None:
    for word in (b"a", b"b"):
        writer = FileWriter(str(tmp_path / "log"))
        writer.write(word)
        writer.close()
    assert (tmp_path / "log").read_bytes() == b"ab"


def test_large_files_are_set_aside_and_old_ones_deleted(tmp_path) -> None:
    writer = FileWriter(str(tmp_path / "log"), rotate_bytes=4, kept=2)
    for letter in "abcd":
        writer.write(letter.encode() * 4)
    writer.close()
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {"log.1": "dddd", "log.2": "cccc"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_survived(caplog) -> None:
    writer = FileWriter("/dev/full")
    for _ in range(3):
        writer.write(b"x")
    writer.close()
    assert writer.dropped >= 1
    assert "Can not write /dev/full" in caplog.text


def test_a_file_that_can_not_be_written_comes_back(tmp_path) -> None:
    (tmp_path / "log").mkdir()
    writer = FileWriter(str(tmp_path / "log"))
    writer.write(b"lost")
    deadline = time.monotonic() + 5
    while not writer.dropped and time.monotonic() < deadline:
        time.sleep(0.01)
    (tmp_path / "log").rmdir()
    writer.write(b"kept")
    writer.close()
    assert (tmp_path / "log").read_bytes() == b"kept"
