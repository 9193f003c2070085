import json
from dataclasses import replace

import keras
import numpy as np
import pytest

from models.common.config import load_config
from models.common.run_folder import RunFolder
from models.common.splits import DataError
from models.segmentation.config import TINY, SegmentationConfig
from models.segmentation.data import Source
from models.segmentation.network import build_network
from models.segmentation.synthetic import make_examples, make_source
from models.segmentation.train import DevScores, predict_mask, train

ONE_EPOCH = replace(TINY, training=replace(TINY.training, epochs=1))


@pytest.fixture(scope="module")
def source():
    return make_source(24)


def test_learns_the_synthetic_task(tiny_segmentation_run):
    details = json.loads((tiny_segmentation_run / "run.json").read_text())
    assert details["metrics"]["synthetic"]["dice"] > 0.6
    assert details["labels"] == ["background", "nucleus"]


def test_run_folder_is_complete(tiny_segmentation_run):
    run = RunFolder(tiny_segmentation_run)
    for path in (run.config, run.best_weights, run.last_weights, run.log, run.details):
        assert path.is_file(), path
    names = sorted(path.name for path in run.plots.iterdir())
    assert names == ["dev_batch.png", "learning_curves.png", "training_batch.png"]
    assert not run.backup.exists()


def test_same_seed_same_result(tmp_path, tiny_segmentation_source, tiny_segmentation_run):
    first = RunFolder(tiny_segmentation_run)
    config = load_config(SegmentationConfig, first.config)
    again = train(config, [tiny_segmentation_source], RunFolder(tmp_path))
    assert again == first.read_details()["metrics"]


@pytest.mark.usefixtures("eagerly")
def test_resumes_after_being_interrupted(tmp_path, monkeypatch):
    config = replace(TINY, training=replace(TINY.training, epochs=3, crops_per_image=1))
    source, run = make_source(8), RunFolder(tmp_path)

    def interrupt(callback, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(DevScores, "on_epoch_begin", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(config, [source], run)
    train(config, [source], run)
    epochs = [line.split(",")[0] for line in run.log.read_text().splitlines()[1:]]
    assert epochs == ["0", "1", "2"]


def test_averaged_weights_in_half_precision_from_another_run(
    tmp_path, source, tiny_segmentation_run
):
    training = replace(ONE_EPOCH.training, ema=0.5, frozen=("down0",), precision="mixed_bfloat16")
    config = replace(ONE_EPOCH, training=training)
    weights = RunFolder(tiny_segmentation_run).best_weights
    train(config, [source], RunFolder(tmp_path), weights)
    before, after = build_network(TINY.network, 2), build_network(TINY.network, 2)
    before.load_weights(weights)
    after.load_weights(RunFolder(tmp_path).best_weights)

    def kernels(name):
        return [network.get_layer(name).get_weights()[0] for network in (before, after)]

    assert keras.mixed_precision.dtype_policy().name == "float32"  # as it is served
    np.testing.assert_array_equal(*kernels("down0_1_conv"))
    assert not np.array_equal(*kernels("down1_1_conv"))


def test_needs_both_parts(tmp_path):
    source = Source("half", {"train": make_examples(2, seed=1)}, "digest")
    with pytest.raises(DataError, match="needs a train and a dev part; sources: half"):
        train(TINY, [source], RunFolder(tmp_path))


def test_masks_have_the_size_of_the_image():
    network = build_network(TINY.network, 2)
    mask = predict_mask(network, np.zeros((13, 21, 3), np.uint8))
    assert mask.shape == (13, 21)
    assert mask.dtype == np.uint8
