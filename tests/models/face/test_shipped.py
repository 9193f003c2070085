"""What ships: present, small, and as good as the model card says."""

import json

import pytest

from models.common.run_folder import RunFolder
from models.face.commands import SHIPPED_WEIGHTS
from models.face.config import TrainingConfig
from models.face.data import load_source
from models.face.evaluate import evaluate
from models.face.signature import load_model

MOST_BYTES = 12 * 2**20


def test_shipped_weights_are_complete_and_small():
    run = RunFolder(SHIPPED_WEIGHTS)
    for path in (run.config, run.details, run.float16_weights, run.log):
        assert path.is_file()
    assert sum(p.stat().st_size for p in SHIPPED_WEIGHTS.rglob("*")) < MOST_BYTES
    assert not [p for p in SHIPPED_WEIGHTS.rglob("*") if p.suffix in (".jpg", ".png", ".pgm")]


def test_shipped_details_carry_thresholds_and_data():
    details = json.loads((SHIPPED_WEIGHTS / "run.json").read_text())
    assert list(details["data"]) == ["faces_lfw"]
    assert 0 < details["thresholds"]["far_1e-3"] < details["thresholds"]["far_1e-2"]


@pytest.mark.slow
@pytest.mark.data("faces_lfw")
def test_shipped_model_is_as_good_as_its_card_says(data_dir, tmp_path):
    model = load_model(SHIPPED_WEIGHTS)
    source = load_source(data_dir / "faces_lfw", TrainingConfig())
    report = evaluate(model, *source.choose("dev"), model.thresholds, tmp_path)
    assert report["accuracy"] >= 0.85
    assert report["roc_auc"] >= 0.92
