import json

import pytest

from models.__main__ import main
from models.common.run_folder import RunFolder
from models.sentiment import commands
from models.sentiment.signature import load_model


def test_ships_a_small_copy_that_loads(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "SHIPPED_WEIGHTS", tmp_path / "weights")
    assert main(["ship", "sentiment", "--run", str(tiny_run)]) == 0
    shipped = RunFolder(tmp_path / "weights")
    names = {p.name for p in shipped.path.rglob("*") if p.is_file()}
    assert names == {
        "config.json",
        "log.csv",
        "run.json",
        "tokenizer.json",
        "vocabulary.txt",
        "weights.float16.npz",
    }
    assert shipped.float16_weights.stat().st_size < 200_000
    assert load_model(shipped.path).labels == ("negative", "positive")


def test_trains_on_a_folder_with_changed_settings(tmp_path, capsys):
    rows = "".join(f"{word} film {i}\t{i % 2}\n" for i, word in enumerate(["bad", "good"] * 60))
    (tmp_path / "train.tsv").write_text(f"text\tlabel\n{rows}")
    arguments = ["train", "sentiment", "--preset=tiny", f"--data={tmp_path}"]
    arguments += [f"--run={tmp_path / 'run'}", "--training.epochs=2", "--network.recurrent=gru"]
    assert main(arguments) == 0
    metrics = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(metrics) == {tmp_path.name}
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["training"]["epochs"] == 2
    assert config["network"]["recurrent"] == "gru"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset=huge"], "unknown preset 'huge'; presets: base, tiny"),
        (["--data", "nowhere"], "nowhere: no such data folder"),
    ],
)
def test_mistakes_are_named(arguments, message, capsys, tmp_path):
    assert main(["train", "sentiment", f"--run={tmp_path}", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_refused_setting_is_named(capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main(["train", "sentiment", f"--run={tmp_path}", "--network.recurrent=rnn"])
    assert stop.value.code == 2
    assert "recurrent must be one of gru, lstm" in " ".join(capsys.readouterr().err.split())
