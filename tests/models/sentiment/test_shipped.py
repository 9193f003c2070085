"""The weights in the package keep what the model card says."""

import pytest

from models.sentiment.commands import SHIPPED_WEIGHTS
from models.sentiment.evaluate import evaluate, load_examples_to_evaluate
from models.sentiment.signature import load_model


@pytest.fixture(scope="module")
def shipped():
    return load_model(SHIPPED_WEIGHTS)


def test_weights_are_small(shipped):
    size = sum(file.stat().st_size for file in SHIPPED_WEIGHTS.rglob("*") if file.is_file())
    assert size < 5 * 2**20
    assert shipped.labels == ("negative", "positive")


@pytest.mark.parametrize(
    ("name", "least_accuracy"),
    [
        pytest.param("sent_sst2", 0.84, marks=pytest.mark.data("sent_sst2")),
        pytest.param("sent_imdb", 0.91, marks=[pytest.mark.data("sent_imdb"), pytest.mark.slow]),
    ],
)
def test_dev_accuracy(shipped, name, least_accuracy, data_dir, tmp_path):
    fraction = shipped.config.training.dev_fraction
    _, examples = load_examples_to_evaluate(data_dir / name, shipped.labels, "dev", fraction)
    metrics = evaluate(shipped, examples, shipped.labels, tmp_path)
    assert metrics.accuracy >= least_accuracy
    assert metrics.ece <= 0.03
    # The float16 weights that ship answer as the weights that were trained.
    trained = shipped.details["metrics"][name]
    assert metrics.accuracy == pytest.approx(trained["accuracy"], abs=0.002)
