from pathlib import Path

import numpy as np
import pytest

from export import reference as module
from export.reference import read_examples, reference_of
from models.common.backends import OnnxBackend
from protocol.drift import DriftWatch
from protocol.features import feature_reader
from protocol.images import encode_png
from protocol.version_folder import Manifest
from tests.protocol.tiny_translator import publish_tiny_translator


def test_lines_and_columns_are_texts(tmp_path: Path) -> None:
    table, lines = tmp_path / "reviews.tsv", tmp_path / "texts.txt"
    table.write_text("text\tlabel\ngood film\t1\nbad\t0\n")
    lines.write_text("text\n\nein\tzwei\n")
    assert read_examples(table, "sentiment") == [b"good film", b"bad"]
    assert read_examples(lines, "translation") == [b"ein\tzwei"]
    with pytest.raises(ValueError, match="expected a file of texts"):
        read_examples(tmp_path, "sentiment")


def test_images_are_found_in_all_folders(tmp_path: Path) -> None:
    image = encode_png(np.zeros((2, 3, 3), np.uint8))
    for name in ("a.png", "b/c.PNG", "b/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(image)
    assert read_examples(tmp_path, "face") == [image, image]
    assert read_examples(tmp_path, "face", most=1) == [image]
    with pytest.raises(ValueError, match="expected a folder of images"):
        read_examples(tmp_path / "a.png", "face")


def test_the_reference_of_a_version_is_what_its_watch_expects(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "FEWEST", 3)
    folder = tmp_path / "1"
    publish_tiny_translator(folder)
    texts = tmp_path / "texts.txt"
    texts.write_text("ab\nba\nab ab\n" * 100)
    reference = reference_of(folder, texts)
    assert reference.examples == 300
    assert set(reference.features) == {"words", "unknown", "score", "length_ratio"}
    watch = DriftWatch(reference)
    read = feature_reader(folder, Manifest.read(folder), reference)
    assert read is not None
    inputs = {"text": np.array([b"ab", b"ba", b"ab ab"] * 100, dtype=object)}
    watch.add(read(inputs, OnnxBackend(folder).run_signature(inputs)))
    assert all(feature.index == pytest.approx(0, abs=1e-6) for feature in watch.report())


def test_too_few_examples_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "1"
    publish_tiny_translator(folder)
    texts = tmp_path / "texts.txt"
    texts.write_text("ab\n")
    with pytest.raises(ValueError, match="holds 1 examples; expected at least 200"):
        reference_of(folder, texts)
