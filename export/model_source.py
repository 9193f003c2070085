"""Which trained model an export takes."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from models.common.run_folder import RunFolder

ModelT = TypeVar("ModelT")


def find_model(
    run: Path | None,
    shipped: Path,
    load_model: Callable[[Path], ModelT],
    train_tiny: Callable[[], Path],
) -> ModelT:
    """Loads a run, else the shipped weights, else a TINY model that is trained on the spot.

    Args:
        run: run folder, or None.
        shipped: where the package keeps its weights, if it ships any.
        load_model: loads a run folder.
        train_tiny: trains a TINY model on generated data and returns its run folder.
    """
    if run is not None:
        return load_model(run)
    if RunFolder(shipped).details.is_file():
        return load_model(shipped)
    return load_model(train_tiny())
