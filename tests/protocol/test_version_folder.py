import json
from dataclasses import replace

import pytest

from protocol.contracts import DETECTION, SENTIMENT
from protocol.errors import DataLossError
from protocol.version_folder import (
    MANIFEST_FILE,
    ONNX_FILE,
    ONNX_STEP_FILE,
    WARMUP_FILE,
    Manifest,
    ServingTuning,
    digest_files,
    onnx_files,
    read_tuning,
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
TUNING = ServingTuning(2, 16, None, {"cpus": 2, "row_work_ms_by_batch": {"1": 0.5}})
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


def test_tuning_is_read_as_written(folder):
    replace(MANIFEST, tuning=TUNING).write(folder)
    assert Manifest.read(folder).tuning == read_tuning(folder) == TUNING


def test_manifests_without_tuning_stay_as_they_were(folder):
    assert read_tuning(folder) is None
    MANIFEST.write(folder)
    assert "tuning" not in json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    assert read_tuning(folder) is None


@pytest.mark.parametrize(
    ("tuning", "message"),
    [
        (None, "must be a mapping, not NoneType"),
        ([1, 2], "must be a mapping, not list"),
        ({"max_batch_size": 1, "runs_inline": True}, "missing .* 'intra_op_threads'"),
        ({"intra_op_threads": 1, "processes": 1}, "unexpected keyword argument 'processes'"),
        (
            {"intra_op_threads": -1, "max_batch_size": 1, "runs_inline": None},
            "tuning.intra_op_threads must be a whole number of at least 0; was -1",
        ),
        (
            {"intra_op_threads": True, "max_batch_size": 1, "runs_inline": None},
            "tuning.intra_op_threads must be a whole number of at least 0; was True",
        ),
        (
            {"intra_op_threads": 1, "max_batch_size": 0, "runs_inline": None},
            "tuning.max_batch_size must be a whole number of at least 1; was 0",
        ),
        (
            {"intra_op_threads": 1, "max_batch_size": 1.5, "runs_inline": None},
            "tuning.max_batch_size must be a whole number of at least 1; was 1.5",
        ),
        (
            {"intra_op_threads": 1, "max_batch_size": 1, "runs_inline": 1},
            "tuning.runs_inline must be true, false or null; was 1",
        ),
        (
            {"intra_op_threads": 1, "max_batch_size": 1, "runs_inline": None, "measured": [2]},
            r"tuning.measured must be an object; was \[2\]",
        ),
    ],
)
def test_invalid_tuning_is_named(folder, tuning, message):
    MANIFEST.write(folder)
    document = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    (folder / MANIFEST_FILE).write_text(json.dumps({**document, "tuning": tuning}))
    with pytest.raises(DataLossError, match=f"manifest.json is not a manifest: .*{message}"):
        Manifest.read(folder)


def test_rewriting_changes_the_manifest_only(folder):
    sealed = MANIFEST.write(folder)
    (folder / "added-later").write_bytes(b"")
    (folder / ONNX_FILE).write_bytes(b"damaged")
    before = sorted(folder.rglob("*"))
    replace(sealed, tuning=TUNING).rewrite(folder)
    assert Manifest.read(folder) == replace(sealed, tuning=TUNING)
    assert sorted(folder.rglob("*")) == before
    with pytest.raises(DataLossError, match="is damaged"):
        verify_files(folder)


def test_a_manifest_that_was_never_completed_is_not_sealed(folder):
    (folder / ".manifest.json.new").write_text("{")
    assert MANIFEST.write(folder).files.keys() == {WARMUP_FILE, ONNX_FILE}
    assert not (folder / ".manifest.json.new").exists()
