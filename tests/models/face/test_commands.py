import json

import pytest
from PIL import Image

from models.__main__ import main
from models.face import commands
from models.face.config import TINY
from models.face.signature import load_model
from models.face.synthetic import make_faces


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Drawn faces as a folder of identities, with a pairs list."""
    root = tmp_path_factory.mktemp("faces")
    for face in make_faces(12, 4, seed=5):
        path = root / "images" / f"{face.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(face.pixels()).save(path)
    same = "".join(f"person_{i:03d}\t1\t2\n" for i in range(12))
    different = "".join(f"person_{i:03d}\t1\tperson_{(i + 1) % 12:03d}\t3\n" for i in range(12))
    (root / "pairsDevTest.txt").write_text(f"12\n{same}{different}")
    return root


def test_evaluate_prints_one_json_line_last(face_run, folder, tmp_path, capsys):
    arguments = ["evaluate", "face", "--data", str(folder), "--run", str(face_run)]
    assert main([*arguments, "--output", str(tmp_path)]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["same"], report["different"], report["n"]) == (12, 12, 48)
    assert (tmp_path / "learning_curves.png").is_file()


def test_evaluate_all_compares_the_same_listed_pairs(
    face_run, folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("models.face.evaluate._draw", lambda *parts: None)
    arguments = ["evaluate", "face", "--data", str(folder), "--run", str(face_run)]
    assert main([*arguments, "--split", "all", "--output", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["same"] == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "huge", "--synthetic"], "unknown preset 'huge'; presets:"),
        (["--preset", "tiny", "--data", "a", "b"], "trains on one data folder, got 2"),
        (["--preset", "tiny", "--data", "absent"], "absent: no such data folder"),
    ],
)
def test_what_cannot_be_trained_is_said(arguments, message, tmp_path, capsys):
    assert main(["train", "face", *arguments, "--run", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err


def test_train_reads_the_folder_it_is_given(folder, tmp_path, monkeypatch, capsys):
    seen = {}
    monkeypatch.setattr(commands, "train", lambda *values: seen.update(values=values) or {})
    arguments = ["train", "face", "--preset", "tiny", "--data", str(folder)]
    assert main([*arguments, "--run", str(tmp_path), "--training.epochs", "2"]) == 0
    config, source, run, weights = seen["values"]
    assert (config.training.epochs, run.path, weights) == (2, tmp_path, None)
    assert source.name == folder.name


def test_ship_stores_the_same_model_in_half_precision(face_run, tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "SHIPPED_WEIGHTS", tmp_path / "weights")
    assert main(["ship", "face", "--run", str(face_run)]) == 0
    shipped = load_model(tmp_path / "weights")
    assert shipped.config == TINY
    assert shipped.thresholds == load_model(face_run).thresholds
    assert {path.name for path in (tmp_path / "weights").iterdir()} == {
        "config.json",
        "log.csv",
        "run.json",
        "weights.float16.npz",
    }
