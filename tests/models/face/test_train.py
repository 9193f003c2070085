import dataclasses
import json

import numpy as np
import pytest

from models.common.run_folder import RunFolder
from models.common.splits import TRAIN, DataError
from models.face.config import TINY
from models.face.data import Source
from models.face.network import build_network
from models.face.signature import load_model
from models.face.synthetic import make_source
from models.face.train import embed_images, train, unit_rows


def test_a_run_holds_all_that_a_run_should(face_run):
    run = RunFolder(face_run)
    for path in (run.config, run.log, run.best_weights, run.last_weights, run.details):
        assert path.is_file()
    pictures = {path.name for path in run.plots.iterdir()}
    assert pictures == {
        "train_batch.png",
        "learning_curves.png",
        "dev_embeddings.png",
        "dev_pairs.png",
    }
    assert not run.backup.exists()


def test_details_say_what_export_needs(face_run):
    details = json.loads((face_run / "run.json").read_text())
    assert details["task"] == "face"
    assert set(details["thresholds"]) == {"accuracy", "far_1e-2", "far_1e-3"}
    assert details["thresholds"]["far_1e-3"] <= details["thresholds"]["far_1e-2"]
    assert details["data"] == {"synthetic": "seed-7"}
    assert details["metrics"]["synthetic"]["roc_auc"] > 0.85


def test_the_same_seed_gives_the_same_run(face_run, tmp_path):
    again = train(TINY, make_source(TINY.training), RunFolder(tmp_path))
    first = json.loads((face_run / "run.json").read_text())["metrics"]["synthetic"]
    assert again == pytest.approx(first, abs=1e-6)


def test_triplets_can_continue_another_run(face_run, tmp_path):
    loss = dataclasses.replace(TINY.loss, angular_weight=0.0, triplet_weight=1.0)
    training = dataclasses.replace(TINY.training, epochs=1, average_momentum=0.9)
    config = dataclasses.replace(TINY, loss=loss, training=training)
    weights = RunFolder(face_run).best_weights
    metrics = train(config, make_source(config.training), RunFolder(tmp_path), weights)
    assert metrics["roc_auc"] > 0.85
    before, after = load_model(face_run).network, load_model(tmp_path).network
    moved = [np.abs(a - b).max() for a, b in zip(*_weights(before, after), strict=True)]
    assert max(moved) > 0


def _weights(*models):
    return [[np.asarray(w) for w in m.get_weights()] for m in models]


def test_a_source_without_dev_is_refused(tmp_path):
    source = make_source(TINY.training)
    only_train = Source("x", {TRAIN: source.splits[TRAIN]}, TRAIN, "")
    with pytest.raises(DataError, match="x has no dev split, training needs one"):
        train(TINY, only_train, RunFolder(tmp_path))


def test_embeddings_do_not_depend_on_the_batch():
    embedder = build_network(TINY.network).embedder
    images = np.random.default_rng(0).uniform(0, 255, (5, 32, 32, 3)).astype(np.float32)
    config = dataclasses.replace(TINY.network, flip_average=True)
    together = embed_images(embedder, images, config, batch_size=2)
    alone = np.concatenate([embed_images(embedder, images[i : i + 1], config) for i in range(5)])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    mirrored = embed_images(embedder, images[:, :, ::-1], config)
    np.testing.assert_allclose(mirrored, together, atol=1e-5)
    assert embed_images(embedder, images[:0], config).shape == (0, 128)


def test_unit_rows_leave_zeros_alone():
    np.testing.assert_allclose(unit_rows(np.array([[0.0, 0.0], [3.0, 4.0]])), [[0, 0], [0.6, 0.8]])
