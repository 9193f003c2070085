from pathlib import Path

import pytest

from protocol.edge_files import step_file


@pytest.mark.parametrize(
    ("model", "step"),
    [
        ("model.onnx", "step.onnx"),
        ("model.int8.onnx", "step.int8.onnx"),
        ("other.onnx", "other.onnx"),
    ],
)
def test_the_step_lies_beside_its_model(model, step):
    assert step_file(Path("models") / model) == Path("models") / step
