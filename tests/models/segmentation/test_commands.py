import argparse
import json
import shutil

import pytest

from models.common.config import ConfigError
from models.common.run_folder import RunFolder
from models.segmentation import commands
from models.segmentation.config import TINY


def train_arguments(tmp_path, **changes):
    defaults = {
        "task": "segmentation",
        "preset": "tiny",
        "run": tmp_path / "run",
        "data": None,
        "synthetic": True,
        "config_help": False,
        "weights": None,
    }
    return argparse.Namespace(**(defaults | changes))


def evaluate_arguments(tmp_path, run, **changes):
    defaults = {
        "task": "segmentation",
        "data": None,
        "split": None,
        "backend": "keras",
        "run": run,
        "version_folder": None,
        "repository": tmp_path / "repository",
        "target": "localhost:1",
        "output": tmp_path / "out",
    }
    return argparse.Namespace(**(defaults | changes))


def test_training_prints_the_dev_metrics_last(tmp_path, capsys, monkeypatch):
    asked = {}

    def remember(config, sources, run, weights):
        asked.update(config=config, names=[s.name for s in sources], run=run, weights=weights)
        return {"synthetic": {"dice": 0.5}}

    monkeypatch.setattr(commands, "train", remember)
    weights = tmp_path / "start.weights.h5"
    commands.train_command(train_arguments(tmp_path, weights=weights), ["--training.epochs", "1"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"synthetic": {"dice": 0.5}}
    assert asked["config"].training.epochs == 1
    assert asked["config"].network == TINY.network
    assert asked["names"] == ["synthetic"]
    assert asked["run"] == RunFolder(tmp_path / "run")
    assert asked["weights"] == weights


def test_unknown_preset(tmp_path):
    with pytest.raises(ConfigError, match="presets: base, tiny, camvid, drive, chasedb1"):
        commands.train_command(train_arguments(tmp_path, preset="huge"), [])


@pytest.mark.data("seg_dsb2018")
def test_evaluating_prints_one_json_line_last(tmp_path, capsys, tiny_segmentation_run, data_dir):
    folder = tmp_path / "few"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
        for path in sorted((data_dir / "seg_dsb2018" / kind).iterdir())[:4]:
            shutil.copy(path, folder / kind)
    commands.evaluate_command(evaluate_arguments(tmp_path, tiny_segmentation_run, data=folder))
    printed = capsys.readouterr()
    metrics = json.loads(printed.out.splitlines()[-1])
    assert {"dice", "mean_iou", "pixel_accuracy", "boundary_f1"} <= set(metrics)
    assert metrics["n"] == 4
    assert "split all" in printed.err
    assert (tmp_path / "out" / "learning_curves.png").is_file()


def test_shipping_makes_a_folder_that_loads(tmp_path, tiny_segmentation_run, monkeypatch):
    monkeypatch.setattr(commands, "SHIPPED_WEIGHTS", tmp_path / "weights")
    commands.ship_command(argparse.Namespace(run=tiny_segmentation_run))
    names = sorted(path.name for path in (tmp_path / "weights").iterdir())
    assert names == ["config.json", "log.csv", "run.json", "weights.float16.npz"]
