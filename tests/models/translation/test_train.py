import json
from dataclasses import replace

import keras
import numpy as np
import pytest

from models.common.run_folder import RunFolder
from models.common.splits import DataError
from models.translation.config import TINY
from models.translation.data import Pair, Source
from models.translation.network import build_network
from models.translation.synthetic import make_source
from models.translation.train import (
    DevScores,
    average_weights,
    checkpoints,
    compile_network,
    train,
)

SOURCE = make_source(160, 20)
SHORT = replace(TINY, training=replace(TINY.training, epochs=1, averaged_checkpoints=1))


def test_learns_the_made_up_language(tiny_translation_run):
    metrics = json.loads((tiny_translation_run / "run.json").read_text())["metrics"]["synthetic"]
    assert metrics["bleu"] > 90
    assert metrics["exact_match"] > 0.8
    assert metrics["perplexity"] < 2


def test_run_folder_is_complete(tiny_translation_run):
    run = RunFolder(tiny_translation_run)
    for path in (run.config, run.best_weights, run.last_weights, run.log, run.details):
        assert path.is_file(), path
    assert [path.name for path in run.assets.iterdir()] == ["subwords.json"]
    assert (run.plots / "learning_curves.png").is_file()
    epochs = TINY.training.epochs
    assert len(list((run.plots / "samples").glob("epoch-*.tsv"))) == epochs
    assert len(list((run.plots / "attention").glob("epoch-*.png"))) == epochs
    assert not run.backup.exists()
    assert not (run.path / "checkpoints").exists()


@pytest.mark.slow
def test_same_seed_same_result(tmp_path):
    first = train(SHORT, [SOURCE], RunFolder(tmp_path / "a"))
    again = train(SHORT, [SOURCE], RunFolder(tmp_path / "b"))
    assert first == again


@pytest.mark.usefixtures("eagerly")
def test_resumes_after_being_interrupted(tmp_path, monkeypatch):
    decoding = replace(TINY.decoding, max_length=8)
    config = replace(TINY, decoding=decoding, training=replace(TINY.training, epochs=3))
    source, run = make_source(40, 8), RunFolder(tmp_path)

    def interrupt(callback, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(DevScores, "on_epoch_begin", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(config, [source], run)
    tokenizer = (run.assets / "subwords.json").read_bytes()
    train(config, [source], run)
    epochs = [line.split(",")[0] for line in run.log.read_text().splitlines()[1:]]
    assert epochs == ["0", "1", "2"]
    assert (run.assets / "subwords.json").read_bytes() == tokenizer


def test_sources_without_dev_are_refused(tmp_path):
    source = Source("only_train", {"train": [Pair("red", "rouge")]}, "digest")
    with pytest.raises(DataError, match="only_train"):
        train(TINY, [source], RunFolder(tmp_path))


@pytest.mark.parametrize("kind", ["attention", "transformer"])
def test_a_kept_network_learns_one_batch_by_heart(kind):
    network = build_network(replace(TINY, network=kind), 20)
    compile_network(network, TINY.training, steps=60)
    network.optimizer.build(network.trainable_variables)  # the step is traced once
    random = np.random.default_rng(0)
    target = random.integers(4, 20, (4, 5)).astype(np.int32)
    before = np.pad(target[:, :-1], ((0, 0), (1, 0)), constant_values=2)
    inputs = {"source_ids": target[:, ::-1].copy(), "target_in": before}
    losses = [float(network.train_on_batch(inputs, {"logits": target})) for _ in range(40)]
    assert losses[-1] < losses[0] / 4


def test_averages_checkpoints(tmp_path):
    network = build_network(TINY, 20)
    values = [weight.copy() for weight in network.get_weights()]
    for number, factor in enumerate((1.0, 3.0), start=1):
        network.set_weights([factor * value for value in values])
        network.save_weights(tmp_path / f"epoch-0{number}.weights.h5")
    average_weights(network, checkpoints(tmp_path))
    for mean, value in zip(network.get_weights(), values, strict=True):
        np.testing.assert_allclose(mean, 2 * value, rtol=1e-6)


def test_the_optimiser_is_that_of_the_paper():
    network = build_network(TINY, 20)
    compile_network(network, TINY.training, steps=10)
    optimizer = network.optimizer
    assert isinstance(optimizer, keras.optimizers.Adam)
    assert (optimizer.beta_2, optimizer.epsilon) == (0.98, 1e-9)
    assert optimizer.global_clipnorm == TINY.training.clip_norm
