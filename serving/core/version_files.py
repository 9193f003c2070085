"""Whether a version folder is whole, and whether its files have changed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from protocol import version_folder
from protocol.errors import UnavailableError

Fingerprint = tuple[tuple[str, int, int], ...]

_INDEX = "variables.index"
_SHARD = re.compile(r"variables\.data-([0-9]{5})-of-([0-9]{5})")


def fingerprint(folder: Path) -> Fingerprint:
    """Name, size and time of change of every file in a version folder; blocking.

    What can not be read is left out: a folder that is gone has an empty fingerprint.
    """
    return tuple(sorted(_files(str(folder), "")))


def _files(folder: str, prefix: str) -> Iterator[tuple[str, int, int]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                yield from _file(entry, prefix + entry.name)
    except OSError:
        return


def _file(entry: os.DirEntry[str], name: str) -> Iterator[tuple[str, int, int]]:
    try:
        if entry.is_dir():
            yield from _files(entry.path, f"{name}/")
        else:
            found = entry.stat()
            yield name, found.st_size, found.st_mtime_ns
    except OSError:
        return


def check_complete(folder: Path) -> None:
    """Checks that a SavedModel whose copying has begun has been copied to the end.

    An empty `variables` folder is that of a model without variables. Other files are left to the
    manifest and the runtime.

    Raises:
        UnavailableError: A file of the variables is missing; the message names it.
    """
    variables = folder / version_folder.VARIABLES_FOLDER
    try:
        names = {path.name for path in variables.iterdir()}
    except (FileNotFoundError, NotADirectoryError):
        return
    missing = next(_missing(names), None) if names else None
    if missing is not None:
        raise UnavailableError(
            f"{folder} is not complete: {variables.name}/{missing} is missing; found: "
            f"{', '.join(sorted(names))}"
        )


def _missing(names: set[str]) -> Iterator[str]:
    shards = [match for name in names if (match := _SHARD.fullmatch(name))]
    if _INDEX not in names:
        yield _INDEX
    if not shards:
        yield "variables.data-00000-of-00001"
    for total in {match[2] for match in shards}:
        for number in range(int(total)):
            name = f"variables.data-{number:05}-of-{total}"
            if name not in names:
                yield name
