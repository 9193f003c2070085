"""Files that answer without a server: where what belongs to one of them lies.

A file of a version folder, `model.onnx`, `model.int8.onnx` or `model.tflite`, may be taken
elsewhere together with the folder's manifest and assets. A translator is two files: the step of
`model.int8.onnx` is `step.int8.onnx`.
"""

from pathlib import Path

_MODEL, _STEP = "model", "step"


def step_file(model: Path) -> Path:
    """Returns where the step of a translator's file would be."""
    return model.with_name(model.name.replace(_MODEL, _STEP, 1))
