import json

import pytest

from protocol.contracts import DETECTION, SENTIMENT
from protocol.errors import DataLossError
from protocol.version_folder import (
    MANIFEST_FILE,
    ONNX_FILE,
    ONNX_STEP_FILE,
    WARMUP_FILE,
    Manifest,
    digest_files,
    onnx_files,
    verify_files,
)

MANIFEST = Manifest(
    task="sentiment",
    model_name="sentiment",
    created="2025-03-01T12:00:00+00:00",
    config={"units": 64, "rates": [0.1, 0.2]},
    data={"imdb": "sha256:ab"},
    metrics={"test": {"accuracy": 0.9}},
    labels=("negative", "pösitive"),
    signatures=(*SENTIMENT.signatures, *DETECTION.signatures),
    packages={"keras": "3"},
    parity={"onnx": 1e-6},
    pipeline={"beam": 4},
)
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture(name="folder")
def folder_fixture(tmp_path):
    (tmp_path / WARMUP_FILE).parent.mkdir()
    (tmp_path / WARMUP_FILE).write_bytes(b"")
    (tmp_path / ONNX_FILE).write_bytes(b"graph" * 1_000_000)
    return tmp_path


def test_write_and_read(folder):
    sealed = MANIFEST.write(folder)
    assert Manifest.read(folder) == sealed
    assert sealed.files.keys() == {WARMUP_FILE, ONNX_FILE}
    assert sealed.files[WARMUP_FILE] == EMPTY_SHA256


def test_manifest_is_json_for_people(folder):
    MANIFEST.write(folder)
    text = (folder / MANIFEST_FILE).read_text(encoding="utf-8")
    assert json.loads(text)["format"] == "manifest/1"
    assert '"pösitive"' in text


def test_writing_again_replaces_the_manifest(folder):
    MANIFEST.write(folder)
    (folder / "assets").mkdir()
    (folder / "assets" / "vocabulary.txt").write_text("a\n")
    assert MANIFEST.write(folder).files.keys() == {WARMUP_FILE, ONNX_FILE, "assets/vocabulary.txt"}


def test_digests_are_sorted_by_path(folder):
    assert list(digest_files(folder)) == sorted([WARMUP_FILE, ONNX_FILE])


def test_intact_folder(folder):
    sealed = MANIFEST.write(folder)
    (folder / "added-later").write_bytes(b"")
    assert verify_files(folder) == sealed


def test_damaged_file_is_named(folder):
    MANIFEST.write(folder)
    with (folder / ONNX_FILE).open("r+b") as file:
        file.write(b"G")
    with pytest.raises(DataLossError, match=r"model\.onnx is damaged: its SHA-256 is [0-9a-f]{64}"):
        verify_files(folder)


def test_missing_file_is_named(folder):
    MANIFEST.write(folder)
    (folder / WARMUP_FILE).unlink()
    with pytest.raises(DataLossError, match=r"tf_serving_warmup_requests .* cannot be read"):
        verify_files(folder)


def test_missing_manifest(tmp_path):
    with pytest.raises(DataLossError, match=r"manifest .*manifest\.json cannot be read"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "is not of the format manifest/1"),
        ('{"format": "manifest/2"}', "is not of the format manifest/1"),
        ('{"format": "manifest/1"}', "is not a manifest: KeyError"),
        ('{"format": "manifest/1", "labels": [], "signatures": []}', "is not a manifest"),
        ('{"format": "manifest/1", "labels": [], "signatures": [{}]}', "is not a manifest"),
    ],
)
def test_other_files(tmp_path, text, message):
    (tmp_path / MANIFEST_FILE).write_text(text)
    with pytest.raises(DataLossError, match=message):
        Manifest.read(tmp_path)


def test_the_step_belongs_to_the_graph(folder):
    assert onnx_files(folder) == (folder / ONNX_FILE,)
    (folder / ONNX_STEP_FILE).write_bytes(b"graph")
    assert onnx_files(folder) == (folder / ONNX_FILE, folder / ONNX_STEP_FILE)
    assert onnx_files(folder, "other.onnx") == (folder / "other.onnx", folder / ONNX_STEP_FILE)
