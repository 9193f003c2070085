"""Weights in half precision: the small file a trained model ships as."""

from pathlib import Path

import keras
import numpy as np


def save_float16(model: keras.Model, path: Path) -> None:
    """Writes every weight of `model` as float16 into a compressed `.npz`, keyed by its path.

    Raises:
        ValueError: if a value does not fit float16 (it would become infinite).
    """
    arrays = {}
    for variable in model.weights:
        values = keras.ops.convert_to_numpy(variable.value)
        with np.errstate(over="ignore"):  # reported below, by name
            half = values.astype(np.float16)
        if not np.isfinite(half).all():
            raise ValueError(
                f"{variable.path} does not fit float16: max |w| {np.abs(values).max()}"
            )
        arrays[variable.path] = half
    np.savez_compressed(path, **arrays)


def load_float16(model: keras.Model, path: Path) -> None:
    """Fills the weights of `model` from a file that `save_float16` wrote.

    Raises:
        ValueError: if a variable is missing, left over, or of another shape.
    """
    with np.load(path) as stored:
        expected = {variable.path: variable for variable in model.weights}
        if set(expected) != set(stored.files):
            missing = sorted(set(expected) - set(stored.files))
            extra = sorted(set(stored.files) - set(expected))
            raise ValueError(f"{path}: missing variables {missing}, left over {extra}")
        for name, variable in expected.items():
            values = stored[name]
            if values.shape != tuple(variable.shape):
                raise ValueError(
                    f"{path}: {name} has shape {values.shape}, expected {tuple(variable.shape)}"
                )
            variable.assign(values.astype(np.float32))
