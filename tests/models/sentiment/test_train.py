import csv
import json
from dataclasses import replace

import keras
import numpy as np
import pytest

from models.common.run_folder import RunFolder
from models.common.splits import DataError
from models.sentiment.calibration import softmax
from models.sentiment.config import TINY
from models.sentiment.data import Example, Source
from models.sentiment.metrics import compute_metrics
from models.sentiment.network import build_network
from models.sentiment.synthetic import make_source
from models.sentiment.train import (
    TRAINED_OUTPUT,
    DevPart,
    calibrate,
    compile_model,
    predict_logits,
    train,
)


def test_learns_the_synthetic_task(tiny_run):
    details = json.loads((tiny_run / "run.json").read_text())
    assert details["metrics"]["synthetic"]["accuracy"] > 0.95


def test_run_folder_is_complete(tiny_run):
    run = RunFolder(tiny_run)
    for path in (run.config, run.best_weights, run.last_weights, run.log, run.details):
        assert path.is_file(), path
    assert (run.plots / "learning_curves.png").is_file()
    assert sorted(p.name for p in run.assets.iterdir()) == ["tokenizer.json", "vocabulary.txt"]
    assert not run.backup.exists()


def test_same_seed_same_result(tmp_path):
    config = replace(TINY, training=replace(TINY.training, epochs=1))
    source = make_source(400)
    first = train(config, [source], RunFolder(tmp_path / "a"))
    again = train(config, [source], RunFolder(tmp_path / "b"))
    assert first == again


def test_resumes_after_being_interrupted(tmp_path, monkeypatch):
    config = replace(TINY, training=replace(TINY.training, epochs=3))
    run, source = RunFolder(tmp_path / "run"), make_source(400)
    epochs = []

    class Interruption(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            epochs.append(epoch)
            if epochs == [0, 1, 2]:
                raise KeyboardInterrupt

    monkeypatch.setattr("models.sentiment.train.tensorboard_callbacks", lambda _: [Interruption()])
    with pytest.raises(KeyboardInterrupt):
        train(config, [source], run)
    train(config, [source], run)
    assert epochs == [0, 1, 2, 2]
    with run.log.open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2"]


def test_sources_without_dev_are_refused(tmp_path):
    source = Source("only_train", {"train": [Example("good film", 1)]}, "digest")
    with pytest.raises(DataError, match="needs a train and a dev split; sources: only_train"):
        train(TINY, [source], RunFolder(tmp_path))


def test_the_network_answers_as_it_was_calibrated():
    network = build_network(TINY.network, 50, 2)
    random = np.random.default_rng(0)
    linear = network.classify.get_layer("linear")
    linear.word_table.assign(random.normal(size=linear.word_table.shape))
    token_ids = [random.integers(2, 50, 9).astype(np.int32) for _ in range(400)]
    recurrent, of_words = predict_logits(network.model, token_ids, network.parts)
    class_ids = (of_words[:, 1] > random.normal(size=400)).astype(int)
    metrics = calibrate(network, {"dev": DevPart(token_ids, class_ids)})["dev"]
    temperatures = np.asarray(network.classify.get_layer("calibration").temperatures)
    assert abs(temperatures[0] - temperatures[1]) > 0.2
    (logits,) = predict_logits(network.model, token_ids)
    np.testing.assert_allclose(
        logits, recurrent / temperatures[0] + of_words / temperatures[1], atol=1e-4
    )
    assert compute_metrics(class_ids, softmax(logits)).accuracy == metrics.accuracy


def test_loss_falls_on_one_batch():
    network = build_network(TINY.network, 50, 2)
    compile_model(network.model, TINY.training, steps=40)
    network.model.optimizer.build(network.model.trainable_variables)  # the step is traced once
    random = np.random.default_rng(0)
    token_ids = random.integers(1, 50, (8, 12)).astype(np.int32)
    targets = {TRAINED_OUTPUT: random.integers(0, 2, 8)}
    losses = [network.model.train_on_batch(token_ids, targets) for _ in range(40)]
    totals = [float(np.ravel(loss)[0]) for loss in losses]
    assert totals[-1] < 0.5 * totals[0]


def test_predict_logits_keeps_the_order():
    network = build_network(TINY.network, 50, 2)
    random = np.random.default_rng(0)
    texts = [random.integers(1, 50, n).astype(np.int32) for n in (40, 3, 17, 3, 90, 1)]
    together = predict_logits(network.model, texts, batch_size=2)[0]
    for row, token_ids in enumerate(texts):
        alone = np.asarray(network.model(token_ids[None])["logits"])[0]
        np.testing.assert_allclose(together[row], alone, atol=1e-5)
