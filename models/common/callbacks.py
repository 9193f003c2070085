"""Callbacks that every training run may use."""

import importlib.util
from pathlib import Path

import keras


def tensorboard_callbacks(folder: Path) -> list[keras.callbacks.Callback]:
    """Returns a TensorBoard writer where TensorBoard is installed, else nothing."""
    if importlib.util.find_spec("tensorboard") is None:
        return []
    return [keras.callbacks.TensorBoard(folder, write_graph=False)]
