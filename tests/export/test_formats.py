import argparse

import pytest

from export import FORMATS
from export.formats import (
    ALL_FORMATS,
    EDGE_FORMATS,
    FILES,
    format_files,
    gate_of,
    parse_formats,
)
from protocol.contracts import CONTRACTS


def test_every_format_but_the_saved_model_has_a_file_of_its_own():
    assert set(FILES) == set(ALL_FORMATS) - {"saved_model"}
    assert len(set(FILES.values())) == len(FILES)
    assert (*FORMATS, *EDGE_FORMATS) == ALL_FORMATS


def test_names_come_with_commas():
    assert parse_formats("onnx,onnx-int8,litert") == ["onnx", "onnx-int8", "litert"]
    for text in ("pickle", "", ",", "onnx,tflite"):
        with pytest.raises(argparse.ArgumentTypeError, match="formats: saved_model, onnx"):
            parse_formats(text)


@pytest.mark.parametrize("task", CONTRACTS)
def test_gates_are_as_stated(task):
    assert gate_of(task, "onnx-fp16").drop == 0.002
    assert gate_of(task, "onnx-int8").drop == gate_of(task, "litert-int8").drop == 0.01
    exact, half, int8 = (gate_of(task, name) for name in ("litert", "onnx-fp16", "onnx-int8"))
    assert exact.difference <= half.difference <= int8.difference


def test_a_translator_is_two_files(tmp_path):
    for name in ("model.int8.onnx", "step.int8.onnx", "model.onnx"):
        (tmp_path / name).touch()
    found = [path.name for path in format_files(tmp_path, "onnx-int8")]
    assert found == ["model.int8.onnx", "step.int8.onnx"]
    assert [path.name for path in format_files(tmp_path, "onnx")] == ["model.onnx"]
    assert format_files(tmp_path, "litert") == ()
