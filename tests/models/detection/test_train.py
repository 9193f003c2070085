import csv
from dataclasses import replace

import keras
import numpy as np
import pytest

from models.common.run_folder import RunFolder
from models.common.splits import DataError
from models.common.training import ScheduleConfig
from models.detection.config import BASE, TINY
from models.detection.network import build_network
from models.detection.train import make_optimizer, train


def rows_of(run):
    with RunFolder(run).log.open(newline="") as file:
        return list(csv.DictReader(file))


def test_learns_the_drawn_shapes(detector_run):
    rows = rows_of(detector_run)
    losses = [float(row["loss"]) for row in rows]
    assert losses[-1] < 0.5 * losses[0]
    assert float(rows[-1]["val_map50"]) > 0.5
    assert {"box_loss", "objectness_loss", "class_loss"} <= set(rows[0])


def test_run_folder_is_complete(detector_run, shapes):
    run = RunFolder(detector_run)
    for file in (run.config, run.best_weights, run.last_weights, run.log):
        assert file.stat().st_size > 0
    pictures = {path.name for path in run.plots.iterdir()}
    assert pictures == {"training_batch.png", "dev_batch.png", "learning_curves.png"}
    details = run.read_details()
    assert details["labels"] == ["disc", "square"]
    assert details["data"] == {shapes.name: shapes.digest}
    best = max(float(row["val_map50"]) for row in rows_of(detector_run))
    assert details["metrics"][shapes.name]["map50"] == pytest.approx(best, abs=0.01)


@pytest.mark.usefixtures("eagerly")
def test_an_interrupted_run_resumes_and_other_weights_can_start_one(
    shapes, detector_run, tmp_path, monkeypatch
):
    few = replace(TINY.training, epochs=2, passes_per_epoch=1, closing_epochs=0, frozen=("stem",))
    config = replace(TINY, training=few)
    one_batch = shapes.splits["train"][: few.batch_size]
    source = replace(shapes, splits={**shapes.splits, "train": one_batch})
    run = RunFolder(tmp_path / "run")
    start = RunFolder(detector_run).best_weights

    def stop(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("models.detection.train.FollowEpochs.on_epoch_begin", stop)
        with pytest.raises(KeyboardInterrupt):
            train(config, source, run, start)
    assert [row["epoch"] for row in rows_of(run.path)] == ["0"]
    metrics = train(config, source, run, start)
    assert [row["epoch"] for row in rows_of(run.path)] == ["0", "1"]
    assert metrics.map50 > 0.3
    stems = []
    for weights in (start, run.last_weights):
        network = build_network(TINY)
        network.load_weights(weights)
        stems.append(network.get_layer("stem_conv").get_weights()[0])
    np.testing.assert_array_equal(*stems)


def test_optimizer_follows_the_configuration():
    training = replace(
        TINY.training, schedule=ScheduleConfig("step", peak=0.1, warmup=0.1), ema_momentum=0.0
    )
    optimizer = make_optimizer(training, steps=100)
    assert not optimizer.use_ema
    rates = [float(optimizer._learning_rate(step)) for step in (0, 50, 80, 95)]
    np.testing.assert_allclose(rates, [0.01, 0.1, 0.01, 0.001], rtol=1e-5)
    assert make_optimizer(BASE.training, steps=100).use_ema


def test_a_source_without_training_images_is_refused(shapes, tmp_path):
    empty = replace(shapes, splits={**shapes.splits, "train": []})
    with pytest.raises(DataError, match="needs images in both"):
        train(TINY, empty, RunFolder(tmp_path))
    assert keras.mixed_precision.dtype_policy().name == "float32"
