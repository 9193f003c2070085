"""Samples: images that a version carries, and how many of a data set an export looks at."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from protocol.version_folder import SAMPLES_FOLDER

CALIBRATION_IMAGES = 48
"""On how many images the ranges of int8 values are measured."""

Item = TypeVar("Item")


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """Picks `count` items, evenly over the whole; all where there are no more."""
    if len(items) <= count:
        return list(items)
    return [items[number * len(items) // count] for number in range(count)]


def write_samples(files: Mapping[str, bytes], assets: Path) -> None:
    """Writes image files, by name, to `samples` in a version's folder of assets."""
    folder = assets / SAMPLES_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
