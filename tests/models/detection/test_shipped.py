"""The weights in the package keep what the model card says."""

import pytest

from models.detection.commands import SHIPPED_WEIGHTS
from models.detection.evaluate import evaluate, load_images_to_evaluate
from models.detection.signature import load_model


@pytest.fixture(scope="module")
def shipped():
    return load_model(SHIPPED_WEIGHTS)


def test_weights_are_small(shipped):
    size = sum(file.stat().st_size for file in SHIPPED_WEIGHTS.rglob("*") if file.is_file())
    assert size < 4 * 2**20
    assert shipped.labels == ("RBC", "WBC", "Platelets")


@pytest.mark.slow
@pytest.mark.data("det_bccd")
def test_dev_precision(shipped, data_dir, tmp_path):
    fraction = shipped.config.training.dev_fraction
    split, images = load_images_to_evaluate(data_dir / "det_bccd", shipped.labels, None, fraction)
    assert (split, len(images)) == ("dev", 87)
    metrics = evaluate(shipped, images, shipped.config, tmp_path, split).metrics
    assert metrics.map50 >= 0.88
    # The float16 weights that ship answer as the weights that were trained.
    trained = shipped.details["metrics"]["det_bccd"]
    assert metrics.map50 == pytest.approx(trained["map50"], abs=0.003)
