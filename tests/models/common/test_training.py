import csv
import logging

import keras
import numpy as np
import pytest

from models.common.config import ConfigError
from models.common.run_folder import RunFolder
from models.common.training import (
    FitPlan,
    Progress,
    ScheduleConfig,
    fit_run,
    make_schedule,
    set_precision,
    start_from,
)

PLAN = FitPlan(epochs=6, monitor="val_score", patience=10)


class Line(keras.utils.PyDataset):
    """Points of y = 2x, the same in each batch: Keras draws the order of the batches."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        x = np.linspace(0, 4, 8, dtype=np.float32)[:, None]
        return x, 2 * x


class Scores(keras.callbacks.Callback):
    """Scores each epoch as a list says; an exception in it kills the run."""

    def __init__(self, scores):
        super().__init__()
        self.scores = scores
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        score = self.scores[epoch]
        if isinstance(score, Exception):
            raise score
        self.seen.append(self.model.get_weights()[0].item())
        if score is not None:
            logs["val_score"] = score


def make_model(averaged=False):
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, use_bias=False, name="line")]
    )
    model.set_weights([np.array([[0.0]])])
    model.compile(keras.optimizers.SGD(1e-3, use_ema=averaged, ema_momentum=0.9), "mse")
    return model


def weight_in(path):
    model = make_model()
    model.load_weights(path)
    return model.get_weights()[0].item()


def rows(run):
    with run.log.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_keeps_the_best_and_the_last_weights(tmp_path):
    run, scores = RunFolder(tmp_path).create(), Scores([0.1, 0.5, 0.3, 0.5, 0.2, 0.1])
    fit_run(make_model(), Line(), run, PLAN, [scores])
    assert weight_in(run.best_weights) == pytest.approx(scores.seen[1])
    assert weight_in(run.last_weights) == pytest.approx(scores.seen[5])
    assert [float(row["val_score"]) for row in rows(run)] == scores.scores
    assert not run.backup.exists()


def test_training_stops_when_the_score_no_longer_rises(tmp_path):
    run, plan = RunFolder(tmp_path).create(), FitPlan(epochs=6, monitor="val_score", patience=2)
    fit_run(make_model(), Line(), run, plan, [Scores([0.5, 0.4, 0.3, 0.9, 0.9, 0.9])])
    assert len(rows(run)) == 3


def test_epochs_without_a_score_are_never_the_best(tmp_path):
    run, scores = RunFolder(tmp_path).create(), Scores([0.1, None, None, 0.4, None, None])
    fit_run(make_model(), Line(), run, PLAN, [scores])
    assert weight_in(run.best_weights) == pytest.approx(scores.seen[3])


@pytest.mark.parametrize("averaged", [False, True])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path, averaged):
    plan = FitPlan(epochs=6, monitor="val_score", patience=10, averaged=averaged)
    scores = [0.1, 0.2, 0.9, 0.3, 0.4, 0.5]
    whole = RunFolder(tmp_path / "whole").create()
    fit_run(make_model(averaged), Line(), whole, plan, [Scores(scores)])

    killed = RunFolder(tmp_path / "killed").create()
    dying = [*scores[:3], RuntimeError("killed"), *scores[4:]]
    with pytest.raises(RuntimeError, match="killed"):
        fit_run(make_model(averaged), Line(), killed, plan, [Scores(dying)])
    # The epoch had been trained and stored; only its score is missing.
    fit_run(make_model(averaged), Line(), killed, plan, [Scores(scores)])

    assert weight_in(killed.last_weights) == pytest.approx(weight_in(whole.last_weights), rel=1e-5)
    assert weight_in(killed.best_weights) == pytest.approx(weight_in(whole.best_weights), rel=1e-5)
    assert [row["epoch"] for row in rows(killed)] == ["0", "1", "2", "4", "5"]


def test_averaged_weights_are_what_is_scored_and_stored(tmp_path):
    plan = FitPlan(epochs=3, monitor="val_score", patience=10, averaged=True)
    run, scores = RunFolder(tmp_path).create(), Scores([0.1, 0.2, 0.3])
    fit_run(make_model(averaged=True), Line(), run, plan, [scores])
    raw = RunFolder(tmp_path / "raw").create()
    of_raw = Scores([0.1, 0.2, 0.3])
    fit_run(make_model(), Line(), raw, FitPlan(3, "val_score", 10), [of_raw])
    # Averages lag behind weights that move one way.
    assert all(a < b for a, b in zip(scores.seen, of_raw.seen, strict=True))
    assert weight_in(run.best_weights) == pytest.approx(scores.seen[-1])


@pytest.mark.parametrize("kind", ["cosine", "step"])
def test_schedules_warm_up_and_fall_to_a_hundredth(kind):
    config = ScheduleConfig(kind, peak=0.5, warmup=0.1, drops=(0.5, 0.8))
    schedule = make_schedule(config, steps=1000)
    rates = np.array([float(schedule(step)) for step in range(1000)])
    assert rates[0] < 0.02
    assert rates[100] == pytest.approx(0.5, rel=0.01)
    assert (np.diff(rates[:100]) > 0).all()
    assert (np.diff(rates[101:]) <= 0).all()
    assert rates[-1] == pytest.approx(0.005, rel=0.05)
    if kind == "step":
        assert rates[499] == pytest.approx(0.5)
        assert rates[500] == pytest.approx(0.05)


@pytest.mark.parametrize("fields", [{"kind": "linear"}, {"peak": 0.0}, {"drops": (0.9, 0.5)}])
def test_refused_schedules_are_named(fields):
    with pytest.raises(ConfigError, match=f"ScheduleConfig.{next(iter(fields))}"):
        ScheduleConfig(**fields)


def test_transfer_loads_what_fits_and_freezes_by_name(tmp_path):
    def network(classes):
        return keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Dense(4, name="stem_a"),
                keras.layers.Dense(4, name="stem_b"),
                keras.layers.Dense(classes, name="head"),
            ]
        )

    trained, fresh = network(2), network(5)
    trained.save_weights(tmp_path / "other.weights.h5")
    head = fresh.get_layer("head").get_weights()[0]
    start_from(fresh, tmp_path / "other.weights.h5", frozen=["stem_"])
    for name in ("stem_a", "stem_b"):
        expected = trained.get_layer(name).get_weights()[0]
        np.testing.assert_array_equal(fresh.get_layer(name).get_weights()[0], expected)
    np.testing.assert_array_equal(fresh.get_layer("head").get_weights()[0], head)
    assert len(fresh.trainable_variables) == 2
    with pytest.raises(ConfigError, match=r"no layer begins with 'stm'; .*: stem_a"):
        start_from(fresh, None, frozen=["stm"])
    with pytest.raises(FileNotFoundError, match=r"gone\.weights\.h5"):
        start_from(fresh, tmp_path / "gone.weights.h5")


def test_precision_sets_the_policy_of_new_layers():
    before = keras.mixed_precision.dtype_policy()
    try:
        set_precision("mixed_bfloat16")
        assert keras.layers.Dense(1).compute_dtype == "bfloat16"
        set_precision("auto")
        assert keras.layers.Dense(1).variable_dtype == "float32"
        with pytest.raises(ConfigError, match="precision must be one of auto, float32"):
            set_precision("float8")
    finally:
        keras.mixed_precision.set_dtype_policy(before)


def test_progress_tells_scores_and_the_time_left(caplog):
    progress = Progress(epochs=2, monitor="val_score", every_s=0.0)
    with caplog.at_level(logging.INFO):
        make_model().fit(Line(), epochs=2, verbose=0, callbacks=[progress])
    lines = [record.getMessage() for record in caplog.records if "left" in record.getMessage()]
    assert lines[0].startswith("epoch 1/2, step 1/4: loss ")
    assert lines[-1].startswith("epoch 2/2: loss ")
    assert lines[-1].endswith("0:00:00 left")
