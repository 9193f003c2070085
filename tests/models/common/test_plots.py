import numpy as np
import pytest
from sklearn.metrics import roc_curve

from models.common import plots


@pytest.fixture
def scores():
    random = np.random.default_rng(0)
    truth = random.random(300) < 0.4
    return truth, np.round(random.normal(truth, 1.0), 1)


def test_counts_by_threshold_equal_scikit_learn(scores):
    truth, values = scores
    true_positives, false_positives = plots._counts_by_threshold(truth, values)
    expected_fpr, expected_tpr, _ = roc_curve(truth, values, drop_intermediate=False)
    np.testing.assert_allclose(true_positives / truth.sum(), expected_tpr)
    np.testing.assert_allclose(false_positives / (~truth).sum(), expected_fpr)


def test_every_picture_is_written(scores, tmp_path):
    truth, values = scores
    log = tmp_path / "log.csv"
    log.write_text("epoch,loss,val_accuracy\n0,0.7,0.5\n1,0.6,0.6\n")
    plots.plot_learning_curves(log, tmp_path / "curves.png")
    plots.plot_roc(truth, values, tmp_path / "roc.png")
    plots.plot_precision_recall(truth, values, tmp_path / "pr.png")
    plots.plot_confusion_matrix(np.array([[3, 1], [0, 4]]), ["a", "b"], tmp_path / "cm.png")
    half = np.array([0.6, 0.9])
    plots.plot_calibration(half, half, np.array([3, 4]), 0.01, tmp_path / "cal.png")
    plots.plot_histogram({"all": values}, "score", tmp_path / "hist.png")
    pictures = list(tmp_path.glob("*.png"))
    assert len(pictures) == 6
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
