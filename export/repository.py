"""The model repository: TensorFlow Serving's layout, changed only by atomic renames.

`<repository>/<model>/<version>/` is what engines read. A version appears, disappears and comes
back by renaming its whole folder within one file system, so a reader never sees half a version.
Folders with a leading dot are ours and no engine looks at them: `.staging` holds versions in the
making, `.retired` those that were rolled back.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STAGING = ".staging"
RETIRED = ".retired"


class RepositoryError(RuntimeError):
    """The repository is not in a state that allows the operation."""


@dataclass(frozen=True)
class ModelRepository:
    """A folder of models; the methods are the operations of a release."""

    path: Path

    def models(self) -> list[str]:
        """Returns the names of the models that have a version, sorted."""
        if not self.path.is_dir():
            return []
        names = (p.name for p in self.path.iterdir() if p.is_dir() and not p.name.startswith("."))
        return sorted(name for name in names if self.versions(name))

    def versions(self, model: str) -> list[int]:
        """Returns the published versions of a model, ascending."""
        return _versions(self.path / model)

    def retired(self, model: str) -> list[int]:
        """Returns the versions that were rolled back, ascending."""
        return _versions(self.path / RETIRED / model)

    def version_folder(self, model: str, version: int) -> Path:
        """Returns where a version lives."""
        return self.path / model / str(version)

    @contextmanager
    def staging(self, model: str) -> Iterator[Path]:
        """Gives an empty folder on the repository's file system; it is removed afterwards."""
        parent = self.path / STAGING
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{model}-", dir=parent))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, model: str, folder: Path) -> int:
        """Makes a finished folder the newest version of a model.

        Args:
            model: served name.
            folder: a complete version; one outside the repository's staging area is copied there
                first.

        Returns:
            The version number: one above every version there is or was.

        Raises:
            RepositoryError: if the folder is missing or empty.
        """
        if not folder.is_dir() or not any(folder.iterdir()):
            raise RepositoryError(f"nothing to publish: {folder} is missing or empty")
        with self.staging(model) as staged:
            complete = staged / "version"
            if folder.parent.parent == self.path / STAGING:
                folder.rename(complete)
            else:
                shutil.copytree(folder, complete)
            _synchronise(complete)
            return self._rename_to_next_version(model, complete)

    def _rename_to_next_version(self, model: str, complete: Path) -> int:
        (self.path / model).mkdir(parents=True, exist_ok=True)
        version = 1 + max([0, *self.versions(model), *self.retired(model)])
        while True:
            try:
                # Two publishers may meet here: renaming onto a full folder fails, so one goes on.
                complete.rename(self.version_folder(model, version))
            except OSError:
                if not self.version_folder(model, version).exists():
                    raise
                version += 1
            else:
                return version

    def rollback(self, model: str) -> tuple[int, int]:
        """Retires the newest version, so that engines return to the one before.

        Returns:
            (retired version, version now newest).

        Raises:
            RepositoryError: if there is no older version to return to.
        """
        versions = self.versions(model)
        if len(versions) < 2:
            raise RepositoryError(
                f"cannot roll back {model}: it has {_listed(versions)}, needs an older one"
            )
        retired = self.path / RETIRED / model
        retired.mkdir(parents=True, exist_ok=True)
        self.version_folder(model, versions[-1]).rename(retired / str(versions[-1]))
        return versions[-1], versions[-2]

    def prune(self, model: str, keep: int) -> list[int]:
        """Deletes all but the newest `keep` versions, and every retired one; returns them.

        Raises:
            RepositoryError: if `keep` is below 1.
        """
        if keep < 1:
            raise RepositoryError(f"prune must keep at least 1 version, got {keep}")
        outdated = self.versions(model)[:-keep]
        folders = [self.version_folder(model, version) for version in outdated]
        folders += [self.path / RETIRED / model / str(v) for v in self.retired(model)]
        with self.staging(model) as bin_folder:
            for number, folder in enumerate(folders):
                folder.rename(bin_folder / str(number))
        return sorted(int(folder.name) for folder in folders)


def _versions(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if p.is_dir() and p.name.isdigit())


def _listed(versions: list[int]) -> str:
    return f"version {', '.join(map(str, versions))}" if versions else "no version"


def _synchronise(folder: Path) -> None:
    """Writes a folder's files to the disk, so that a power cut cannot leave a hollow version."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
