"""The table: one file is really measured, the rest is arithmetic and text."""

import csv
import json

import numpy as np
import pytest

from export import measure, table
from export.__main__ import main
from export.formats import REFUSALS_FILE
from export.table import Row, markdown, write_table
from tests.bench.tiny_model import publish_tiny_model


@pytest.fixture
def folder(tmp_path):
    publish_tiny_model(tmp_path)
    return tmp_path / "sentiment" / "1"


def test_a_process_measures_one_file(folder, capsys, monkeypatch):
    monkeypatch.setattr(measure, "_BUDGET_S", 0.01)
    assert measure.main([str(folder), "onnx", "--threads", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["latency_ms"] > 0
    assert found["batch"] in measure.BATCHES
    assert found["rows_per_s"] >= 1 / found["latency_ms"]
    assert found["peak_mb"] > 10


def test_the_table_has_what_was_measured_and_what_was_refused(
    folder, tmp_path, monkeypatch, capsys
):
    (folder / REFUSALS_FILE).write_text(json.dumps({"litert": "no operators"}))
    monkeypatch.setattr(table, "_has_openvino", lambda: False)
    monkeypatch.setattr(table, "ROUNDS", 1)
    assert main(["table", str(folder), "--out", str(tmp_path / "table")]) == 0
    printed = capsys.readouterr().out
    assert "| sentiment | onnx | onnxruntime | 0.00 |" in printed
    assert "- sentiment, litert, litert: no operators" in printed
    names = {path.name for path in (tmp_path / "table").iterdir()}
    assert names == {"formats.md", "formats.csv", "formats.png"}
    assert (tmp_path / "table" / "formats.md").read_text() == printed
    with (tmp_path / "table" / "formats.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["format"] for row in rows] == ["litert", "onnx"]
    assert 0 < float(rows[1]["cold_start_s"]) < 60


def test_what_fails_is_a_row_with_its_reason(folder, monkeypatch):
    (folder / "model.onnx").write_bytes(b"damaged")
    monkeypatch.setattr(table, "_has_openvino", lambda: False)
    (row,) = table.measure_folders([folder])
    assert row.latency_1_ms is None
    assert "can not be loaded" in row.note


def test_the_best_of_each_figure_counts():
    rounds = [
        Row("face", "onnx", "onnxruntime", 3.77, 1.5, 0.9, 812.0, 1500.0, 120.0, 0.45),
        Row("face", "onnx", "onnxruntime", 3.77, 1.2, 1.1, 900.0, 1400.0, 121.0, 0.40),
    ]
    assert table._best(rounds) == Row(
        "face", "onnx", "onnxruntime", 3.77, 1.2, 0.9, 900.0, 1500.0, 120.0, 0.40
    )


def test_numbers_and_gaps(tmp_path):
    rows = [
        Row("face", "onnx", "onnxruntime", 3.77, 1.234, 0.9, 812.4, 1500.0, 120.2, 0.45),
        Row("face", "onnx-int8", "onnxruntime", metric="accuracy", value=0.84286, drop=-0.0001),
        Row("face", "onnx", "openvino", differs="embedding by up to 0.03"),
    ]
    lines = markdown(rows).splitlines()
    assert lines[2] == (
        "| face | onnx | onnxruntime | 3.77 | 1.23 | 0.90 | 812 | 1500 | 120 | 0.5 | – | – |"
    )
    assert lines[3].endswith("| – | – | accuracy 0.8429 | -0.0001 |")
    assert lines[5:] == ["", "- face, onnx, openvino: other answers, embedding by up to 0.03"]
    write_table(rows, tmp_path)
    assert (tmp_path / "formats.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ({}, ""),
        ({"scores": np.array([5.004, 0.0])}, ""),
        ({"scores": np.array([5.0, 0.25])}, "scores by up to 0.25"),
        ({"scores": np.array([5.0, np.nan])}, "scores by up to nan"),
        ({"scores": np.zeros(3)}, "scores has other sizes"),
        ({"ids": np.array([1, 2, 3, 5])}, "ids in 25.0%"),
        ({"names": np.array([b"b"], object)}, "names in 100.0%"),
    ],
)
def test_differences_are_told(found, text):
    expected = {
        "scores": np.array([5.0, 0.0]),
        "ids": np.array([1, 2, 3, 4]),
        "names": np.array([b"a"], object),
    }
    assert measure.describe_difference({**expected, **found}, expected) == text
