"""The SQLite file of a gallery: its tables, transactions, errors, and deletion without traces."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from protocol.errors import (
    DataLossError,
    FailedPreconditionError,
    ServiceError,
    UnavailableError,
)

_APPLICATION_ID = 0x4B4D5347
_FORMAT = 1
_BUSY_TIMEOUT_S = 10.0
_OWNER_ONLY = 0o600

_SETTINGS = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA secure_delete = ON",
    "PRAGMA temp_store = MEMORY",  # no copies of embeddings in the system's temporary folder
    "PRAGMA synchronous = FULL",  # what was enrolled survives a power failure, too
    "PRAGMA journal_mode = WAL",
)
_SCHEMA = (
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_FORMAT}",
    """CREATE TABLE binding (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        model TEXT NOT NULL,
        version INTEGER NOT NULL,
        thresholds BLOB NOT NULL
    )""",
    """CREATE TABLE person (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        consent TEXT NOT NULL
    )""",
    """CREATE TABLE example (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        person INTEGER NOT NULL REFERENCES person ON DELETE CASCADE,
        source TEXT NOT NULL,
        enrolled TEXT NOT NULL,
        vector BLOB NOT NULL
    )""",
    "CREATE INDEX example_person ON example (person)",
    "CREATE TABLE removals (count INTEGER NOT NULL)",
    "INSERT INTO removals VALUES (0)",
)


class GalleryFile:
    """One connection to the file, which is made if there is none; safe to share by threads.

    Args:
        path: The file.

    Raises:
        DataLossError: The file is damaged, or no SQLite file.
        FailedPreconditionError: It is the file of another program, or of another version of this
            one, or it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        with self._errors():
            path.touch(_OWNER_ONLY)
            self._database = sqlite3.connect(
                path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self._database.close()
                raise

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._database.close()

    def execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Runs one statement; to be called within a transaction."""
        return self._database.execute(statement, values)

    @contextmanager
    def transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
        """Runs its block as one transaction, which ends with all of it or nothing.

        Args:
            begin: How it begins: `BEGIN` for reading one state of the file, `BEGIN IMMEDIATE`
                for writing.

        Raises:
            UnavailableError: Another process is writing all the time.
            DataLossError: The file is damaged.
            FailedPreconditionError: The file cannot be written, for example.
        """
        with self._lock, self._errors():
            self._database.execute(begin)
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def erase_traces(self) -> None:
        """Rewrites the file without what was deleted, and empties the write-ahead log.

        Raises:
            UnavailableError: Another process is using the file all the time.
        """
        with self._lock, self._errors():
            self._database.execute("VACUUM")
            (busy, *_) = self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise UnavailableError(
                f"gallery {self.path}: what was removed is still in its write-ahead log, because "
                "another process is reading; it goes with erase_traces, or when all have closed it"
            )

    def _prepare(self) -> None:
        for setting in _SETTINGS:
            self._database.execute(setting)
        if self._format() == (0, 0, 0):
            with self.transaction():
                if self._format() == (0, 0, 0):  # nobody was faster
                    for statement in _SCHEMA:
                        self._database.execute(statement)
        application, version, _ = self._format()
        if application != _APPLICATION_ID:
            raise FailedPreconditionError(f"{self.path}: a SQLite file, but no gallery of faces")
        if version != _FORMAT:
            raise FailedPreconditionError(
                f"gallery {self.path}: expected format {_FORMAT}, got {version}; "
                "it was made by another version of this program"
            )

    def _format(self) -> tuple[int, int, int]:
        """Returns application, version of the format, and number of tables: all 0 if new."""
        row: tuple[int, int, int] = self._database.execute(
            "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master)"
            " FROM pragma_application_id, pragma_user_version"
        ).fetchone()
        return row

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns the errors of SQLite and of the file system into ours, naming the file."""
        try:
            yield
        except sqlite3.ProgrammingError:
            raise  # a closed gallery is a mistake in the program
        except sqlite3.Error as error:
            raise _error_class(error)(f"gallery {self.path}: {error}") from error
        except OSError as error:
            raise FailedPreconditionError(f"gallery {self.path}: {error.strerror}") from error


def _error_class(error: sqlite3.Error) -> type[ServiceError]:
    primary = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return UnavailableError
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DataLossError
    return FailedPreconditionError
