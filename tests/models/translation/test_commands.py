import pytest

from models.__main__ import main
from models.common.config import save_config
from models.common.run_folder import RunFolder
from models.translation import commands
from models.translation.signature import load_model
from tests.models.translation.untrained import make_model


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder as training leaves it, of a network that was not trained."""
    model = make_model("attention", tmp_path_factory.mktemp("run"))
    save_config(model.config, model.run.config)
    model.network.save_weights(model.run.best_weights)
    model.run.log.write_text("epoch,loss\n0,1.0\n")
    model.run.write_details(dict(model.details))
    return model.run


@pytest.mark.parametrize("name", ["en_fr", "dates"])
def test_ships_a_small_copy_that_loads(run, name, tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "WEIGHTS", tmp_path)
    arguments = ["ship", "translation", f"--run={run.path}"]
    assert main([*arguments, *([f"--name={name}"] if name != "en_fr" else [])]) == 0
    assert [folder.name for folder in tmp_path.iterdir()] == [name]
    shipped = RunFolder(tmp_path / name)
    assert {p.name for p in shipped.path.rglob("*") if p.is_file()} == {
        "config.json",
        "log.csv",
        "run.json",
        "subwords.json",
        "weights.float16.npz",
    }
    assert load_model(shipped.path).config == load_model(run.path).config


def test_an_unknown_name_is_refused(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(commands, "WEIGHTS", tmp_path)
    assert main(["ship", "translation", f"--run={run.path}", "--name=klingon"]) == 1
    assert "unknown name 'klingon'; shipped translators: en_fr, dates" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
