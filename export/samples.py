"""Sample images that a version carries: what the demo, smoke and load tests send."""

from collections.abc import Mapping
from pathlib import Path

from protocol.version_folder import SAMPLES_FOLDER


def write_samples(files: Mapping[str, bytes], assets: Path) -> None:
    """Writes image files, by name, to `samples` in a version's folder of assets."""
    folder = assets / SAMPLES_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
