"""The gallery's file: what is no gallery, and errors that name the file."""

import sqlite3
from pathlib import Path

import pytest

from clients import Gallery
from clients.gallery_file import GalleryFile
from protocol.errors import DataLossError, FailedPreconditionError, UnavailableError


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to look like a file with a header" * 20)
    with pytest.raises(DataLossError, match=r"gallery .*notes\.txt: file is not a database"):
        Gallery(path)


def test_the_database_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE person (name TEXT)")
    with pytest.raises(FailedPreconditionError, match="no gallery of faces"):
        Gallery(path)
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM sqlite_master").fetchone() == (1,)


def test_a_gallery_of_another_format(tmp_path: Path) -> None:
    path = tmp_path / "new.gallery"
    Gallery(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 2")
    with pytest.raises(FailedPreconditionError, match="expected format 1, got 2"):
        Gallery(path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FailedPreconditionError, match="No such file or directory"):
        Gallery(tmp_path / "nothing" / "people.gallery")


def test_a_closed_gallery_is_a_mistake_of_the_program(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path / "people.gallery")
    gallery.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        gallery.people()


def test_a_writer_that_never_ends(tmp_path: Path) -> None:
    path = tmp_path / "people.gallery"
    file = GalleryFile(path)
    file._database.execute("PRAGMA busy_timeout = 20")
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError, match="locked"), file.transaction():
            pytest.fail("the transaction has begun")
        other.execute("ROLLBACK")
    other.close()
    file.close()


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    file = GalleryFile(tmp_path / "people.gallery")

    def fail() -> None:
        with file.transaction():
            file.execute("INSERT INTO person (name, consent) VALUES ('Ada', '')")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with file.transaction():
        assert file.execute("SELECT * FROM person").fetchall() == []
    file.close()
