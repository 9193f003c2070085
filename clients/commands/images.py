"""What commands on images share: which images, and where pictures go."""

import argparse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from clients import drawing
from clients.commands.options import UsageError
from clients.images import image_files
from protocol.errors import InvalidRequestError

if TYPE_CHECKING:
    from PIL.Image import Image


def add_images(command: argparse.ArgumentParser) -> None:
    """Adds the images as positional arguments; `listed_images` reads them."""
    command.add_argument(
        "images",
        nargs="+",
        type=Path,
        metavar="IMAGE",
        help="a JPEG or PNG file, or a folder of such files",
    )


def add_save(command: argparse.ArgumentParser, what: str) -> None:
    """Adds `--save DIR`; `PictureFolder.of` reads it."""
    command.add_argument(
        "--save", type=Path, metavar="DIR", help=f"save {what} in this folder (needs Pillow)"
    )


def listed_images(paths: Iterable[Path]) -> list[Path]:
    """Returns the given files, and those of the given folders by name.

    Raises:
        UsageError: A path does not exist, or a folder holds no images.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise UsageError(f"there is no file or folder {path}")
        try:
            files += image_files(path) if path.is_dir() else [path]
        except InvalidRequestError as error:
            raise UsageError(str(error)) from error
    return files


def in_batches(files: list[Path], size: int) -> Iterator[list[Path]]:
    """Yields the files in groups, each to be answered and printed before the next is sent."""
    for start in range(0, len(files), size):
        yield files[start : start + size]


def needs_pillow() -> None:
    """Makes sure that pictures can be drawn.

    Raises:
        UsageError: Pillow is not installed.
    """
    try:
        drawing.require_pillow()
    except ImportError as error:
        raise UsageError(str(error)) from error


def save_picture(path: Path, picture: "Image") -> None:
    """Saves a picture; the folder is made if need be.

    Raises:
        UsageError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    except OSError as error:
        raise UsageError(f"cannot save {path}: {error.strerror}") from error


class PictureFolder:
    """Where pictures are saved; nothing is saved where there is no folder.

    Args:
        folder: The folder, which is made when it is needed; None to save nothing.

    Raises:
        UsageError: Pillow is not installed.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._taken: set[str] = set()
        if folder is not None:
            needs_pillow()

    def save(self, source: str, kind: str, draw: Callable[[], "Image"]) -> list[str]:
        """Saves a picture as `<name of the source>.<kind>.png`.

        Args:
            source: Path of the image it is about; of two with the same name in one run, the
                second gets a number.
            kind: What it shows, such as `boxes`.
            draw: Makes the picture; not called where nothing is saved.

        Returns:
            Its path, or nothing.

        Raises:
            UsageError: It cannot be written.
        """
        if self._folder is None:
            return []
        path = self._folder / self._free_name(Path(source).stem, kind)
        save_picture(path, draw())
        return [str(path)]

    def _free_name(self, stem: str, kind: str) -> str:
        name, number = f"{stem}.{kind}.png", 1
        while name in self._taken:
            number += 1
            name = f"{stem}-{number}.{kind}.png"
        self._taken.add(name)
        return name
