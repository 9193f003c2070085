"""The weights in the package keep what the model card says."""

import pytest

from models.segmentation.commands import SHIPPED_WEIGHTS
from models.segmentation.evaluate import evaluate, load_examples_to_evaluate
from models.segmentation.signature import load_model


@pytest.fixture(scope="module")
def shipped():
    return load_model(SHIPPED_WEIGHTS)


def test_weights_are_small(shipped):
    size = sum(file.stat().st_size for file in SHIPPED_WEIGHTS.rglob("*") if file.is_file())
    assert size < 12 * 2**20
    assert shipped.labels == ("background", "nucleus")


@pytest.mark.slow
@pytest.mark.data("seg_dsb2018")
def test_dev_scores(shipped, data_dir, tmp_path):
    name = "seg_dsb2018"
    _, examples = load_examples_to_evaluate(data_dir / name, shipped.config, "dev")
    report = evaluate(shipped, examples, shipped.labels, tmp_path)
    assert report.metrics.dice >= 0.919
    assert report.metrics.mean_iou >= 0.91
    # The float16 weights that ship answer as the weights that were trained.
    trained = shipped.details["metrics"][name]
    assert report.metrics.dice == pytest.approx(trained["dice"], abs=0.002)
