"""What a model repository holds: `<name>/<version>/` folders."""

from dataclasses import dataclass
from pathlib import Path

from protocol.errors import DataLossError
from protocol.version_folder import Manifest


@dataclass(frozen=True)
class PublishedModel:
    """The newest version of a model in the repository.

    Args:
        name: Name of the model, and of its folder.
        version: Its highest version number.
        task: What it is for, as its manifest says; its name where there is no manifest.
        folder: The folder of that version.
    """

    name: str
    version: int
    task: str
    folder: Path


def published_models(repository: Path) -> list[PublishedModel]:
    """Returns the models of a repository by name.

    Args:
        repository: Folder to look in; it may be missing, which means there are none.
    """
    if not repository.is_dir():
        return []
    found = []
    for folder in sorted(repository.iterdir()):
        versions = _versions(folder)
        if versions:
            newest = max(versions)
            version = versions[newest]
            found.append(PublishedModel(folder.name, newest, _task(folder, version), version))
    return found


def _versions(folder: Path) -> dict[int, Path]:
    """Returns the version folders of a model by number; hidden and other names do not count."""
    if not folder.is_dir() or folder.name.startswith("."):
        return {}
    return {
        int(entry.name): entry
        for entry in folder.iterdir()
        if entry.is_dir() and entry.name.isascii() and entry.name.isdigit()
    }


def _task(model: Path, version: Path) -> str:
    try:
        return Manifest.read(version).task
    except DataLossError:
        return model.name
