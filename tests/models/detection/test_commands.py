import json

import pytest

from models.__main__ import main
from models.common.run_folder import RunFolder
from models.detection import commands
from models.detection.signature import load_model
from models.detection.synthetic import write_source


def test_ships_a_small_copy_that_loads(detector_run, tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "SHIPPED_WEIGHTS", tmp_path / "weights")
    assert main(["ship", "detection", "--run", str(detector_run)]) == 0
    shipped = RunFolder(tmp_path / "weights")
    names = {p.name for p in shipped.path.rglob("*") if p.is_file()}
    assert names == {"config.json", "log.csv", "run.json", "weights.float16.npz"}
    assert shipped.float16_weights.stat().st_size < 200_000
    assert load_model(shipped.path).labels == ("disc", "square")


@pytest.mark.usefixtures("eagerly")
def test_trains_and_evaluates_a_folder_with_changed_settings(tmp_path, capsys):
    write_source(tmp_path / "shapes", train=9, dev=3)
    arguments = ["train", "detection", "--preset=tiny", f"--data={tmp_path / 'shapes'}"]
    arguments += [f"--run={tmp_path / 'run'}", "--training.epochs=1", "--training.closing-epochs=0"]
    assert main(arguments) == 0
    assert set(json.loads(capsys.readouterr().out.splitlines()[-1])) == {"map50", "map"}
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["training"]["epochs"] == 1
    arguments = ["evaluate", "detection", f"--data={tmp_path / 'shapes'}", "--split=val"]
    arguments += [f"--run={tmp_path / 'run'}", f"--output={tmp_path / 'pictures'}"]
    assert main(arguments) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["images"] == 3
    assert line["split"] == "dev"
    assert (tmp_path / "pictures" / "learning_curves.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset=huge"], "unknown preset 'huge'; presets: base, tiny, raccoon"),
        (["--data", "nowhere"], "nowhere: no such data folder"),
        (["--data", "here", "there"], "detection trains on one folder, got 2"),
        (["--preset=tiny"], "preset 'tiny' needs --data DIR or --synthetic"),
    ],
)
def test_mistakes_are_named(arguments, message, capsys, tmp_path):
    assert main(["train", "detection", f"--run={tmp_path}", *arguments]) == 1
    assert message in capsys.readouterr().err
