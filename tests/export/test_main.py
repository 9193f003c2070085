import subprocess
import sys

import pytest

from export import tuning
from export.__main__ import in_words, main
from protocol.version_folder import ServingTuning, read_tuning, verify_files


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_help_is_quick_and_shows_examples():
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "export", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "python -m export publish sentiment" in result.stdout
    assert "tensorflow" not in result.stderr


def test_life_of_a_model(tiny_run, tmp_path, capsys):
    repository = ("--repository", tmp_path / "repository")
    assert run("list", *repository) == 0
    assert "holds no model" in capsys.readouterr().out
    assert run("sentiment", "--run", tiny_run, "--to", "onnx", "--out", tmp_path / "version") == 0
    for _ in range(3):
        assert run("publish", "sentiment", "--folder", tmp_path / "version", *repository) == 0
    verify_files(tmp_path / "repository" / "sentiment" / "3")
    assert run("rollback", "sentiment", *repository) == 0
    assert run("list", *repository) == 0
    assert capsys.readouterr().out.endswith("sentiment: 1, 2; rolled back: 3\n")
    assert run("prune", "sentiment", "--keep", 1, *repository) == 0
    assert capsys.readouterr().out == "sentiment: deleted 1, 3\n"
    assert run("publish", "sentiment", "--if-missing", *repository) == 0
    assert "version 2 is published" in capsys.readouterr().out


def test_a_folder_belongs_to_one_model(exported, tmp_path, capsys):
    folder = ("--folder", exported, "--repository", tmp_path)
    assert run("publish", "sentiment", "face", *folder) == 1
    assert "belong to one model" in capsys.readouterr().err


def test_a_damaged_folder_is_not_published(version_folder, tmp_path, capsys):
    (version_folder / "model.onnx").write_bytes(b"cut")
    repository = ("--repository", tmp_path / "repository")
    assert run("publish", "sentiment", "--folder", version_folder, *repository) == 1
    assert "model.onnx" in capsys.readouterr().err
    assert run("list", *repository) == 0
    assert "holds no model" in capsys.readouterr().out


def test_errors_are_one_line(tmp_path, capsys):
    assert run("rollback", "sentiment", "--repository", tmp_path) == 1
    assert capsys.readouterr().err == (
        "error: cannot roll back sentiment: it has no version, needs an older one\n"
    )
    assert run("sentiment", "--run", tmp_path / "none", "--out", tmp_path / "out") == 1
    assert "holds no finished run" in capsys.readouterr().err


def test_tuning_is_recorded_where_it_is_asked_for(exported, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tuning, "_ROUNDS_S", 0.0)
    repository = ("--repository", tmp_path / "repository")
    folder = ("--folder", exported, *repository)
    assert run("tune", *repository) == 1
    assert "holds no model to tune" in capsys.readouterr().err
    assert run("tune", "sentiment", *repository) == 1
    assert "holds no version" in capsys.readouterr().err
    assert run("publish", "sentiment", *folder) == 0
    assert run("publish", "sentiment", "--tune", *folder) == 0
    versions = tmp_path / "repository" / "sentiment"
    assert read_tuning(exported) is None
    assert read_tuning(versions / "1") is None
    assert read_tuning(versions / "2") is not None
    assert run("publish", "sentiment", *folder) == 0
    capsys.readouterr()
    assert run("tune", *repository) == 0
    found = verify_files(versions / "3").tuning
    assert capsys.readouterr().out == f"{versions / '3'}: {in_words(found)}\n"


@pytest.mark.parametrize(
    ("tuning", "words"),
    [
        (ServingTuning(1, 1, False), "1 thread, batches of 1 row, in worker threads"),
        (ServingTuning(2, 16, True), "2 threads, batches of 16 rows, in the event loop"),
        (
            ServingTuning(1, 8, None),
            "1 thread, batches of 8 rows, short requests in the event loop",
        ),
    ],
)
def test_tuning_in_words(tuning, words):
    assert in_words(tuning) == words
