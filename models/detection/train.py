"""Training of the detector: a source in, a run folder out."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models.common.config import save_config
from models.common.images import read_image
from models.common.plots import plot_learning_curves
from models.common.run_folder import RunFolder
from models.common.seeding import set_seed
from models.common.splits import DEV, TRAIN, DataError
from models.common.training import FitPlan, fit_run, make_schedule, set_precision, start_from
from models.detection.batches import TrainingBatches, load_sample
from models.detection.config import DetectionConfig, TrainingConfig
from models.detection.data import LabelledImage, Source
from models.detection.letterbox import place
from models.detection.losses import Learner
from models.detection.metrics import (
    SCORING_THRESHOLD,
    Metrics,
    best_threshold,
    compute_metrics,
    map50,
)
from models.detection.network import build_network
from models.detection.nms import Detections
from models.detection.pictures import draw_batch
from models.detection.predict import Predictor, detect

logger = logging.getLogger(__name__)

# Images in a picture of a batch.
SHOWN = 12


def train(
    config: DetectionConfig, source: Source, run: RunFolder, weights: Path | None = None
) -> Metrics:
    """Trains a detector and writes its run folder; an interrupted run resumes where it stopped.

    Args:
        config: what to train.
        source: labelled images with a train and a dev split.
        run: where everything is written.
        weights: a `.weights.h5` file to start from, or None.

    Returns:
        Dev metrics of the best epoch.

    Raises:
        DataError: if the source cannot be trained on.
    """
    set_seed(config.training.seed)
    run.create()
    save_config(config, run.config)
    set_precision(config.training.precision)
    try:
        _fit(config, source, run, weights)
    finally:
        set_precision("float32")
    return _finish(config, source, run)


def _fit(config: DetectionConfig, source: Source, run: RunFolder, weights: Path | None) -> None:
    if not source.splits[TRAIN] or not source.splits[DEV]:
        raise DataError(f"{source.name}: training needs images in both its train and dev split")
    batches = TrainingBatches([load_sample(i, config) for i in source.splits[TRAIN]], config)
    dev = DevPart(source.splits[DEV], config)
    logger.info("images: %d to train on, %d dev", len(batches.samples), len(dev.images))
    draw_labelled_batch(batches, run.plots / "training_batch.png")

    network = build_network(config)
    start_from(network, weights, config.training.frozen)
    learner = make_learner(network, config, steps=len(batches) * config.training.epochs)
    plan = FitPlan(
        epochs=config.training.epochs,
        monitor="val_map50",
        patience=config.training.patience,
        averaged=config.training.ema_momentum > 0,
    )
    fit_run(learner, batches, run, plan, [FollowEpochs(batches), DevScores(network, dev)])


def make_learner(network: keras.Model, config: DetectionConfig, steps: int) -> Learner:
    """Returns the network with loss and optimiser, ready for `steps` training steps."""
    learner = Learner.of(network, config)
    learner.compile(
        make_optimizer(config.training, steps), jit_compile=keras.backend.backend() == "jax"
    )
    return learner


def make_optimizer(config: TrainingConfig, steps: int) -> keras.optimizers.Optimizer:
    """AdamW (Loshchilov and Hutter 2019) with the schedule, clipping and averaging of `config`."""
    averaging = {"use_ema": True, "ema_momentum": config.ema_momentum}
    optimizer = keras.optimizers.AdamW(
        make_schedule(config.schedule, steps),
        weight_decay=config.weight_decay,
        global_clipnorm=config.clip_norm,
        **(averaging if config.ema_momentum else {}),
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


class DevPart:
    """The dev images, letterboxed, with their labels."""

    def __init__(self, images: list[LabelledImage], config: DetectionConfig) -> None:
        self.images = images
        self.config = config
        self.truths = [image.truth for image in images]
        self.letterboxed = np.stack(
            [
                place(load_sample(image, config).image_u8, config.height, config.width)
                for image in images
            ]
        )

    def detect(self, network: keras.Model) -> list[Detections]:
        """Finds what the network sees in each image, weak detections included."""
        sizes = [(image.height, image.width) for image in self.images]
        predictor = Predictor(network, self.config)
        return detect(predictor, self.letterboxed, sizes, self.config, SCORING_THRESHOLD)


class FollowEpochs(keras.callbacks.Callback):
    """Tells the batches which epoch it is; a resumed run does not begin with the first."""

    def __init__(self, batches: TrainingBatches) -> None:
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Passes the epoch on."""
        self.batches.epoch = epoch


class DevScores(keras.callbacks.Callback):
    """Adds the dev part's mAP50 to each epoch's logs, as `val_map50`."""

    def __init__(self, network: keras.Model, dev: DevPart) -> None:
        super().__init__()
        self.network = network
        self.dev = dev

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Scores the network."""
        if logs is not None:
            found = self.dev.detect(self.network)
            logs["val_map50"] = map50(self.dev.truths, found, len(self.dev.config.labels))


def _finish(config: DetectionConfig, source: Source, run: RunFolder) -> Metrics:
    """Measures the best weights in full precision, and writes pictures and `run.json`."""
    network = build_network(config)
    network.load_weights(run.best_weights)
    dev = DevPart(source.splits[DEV], config)
    found = dev.detect(network)
    metrics = compute_metrics(dev.truths, found, config.labels)
    threshold = best_threshold(dev.truths, found, len(config.labels))
    config = replace(config, score_threshold=threshold)
    save_config(config, run.config)
    details: dict[str, Any] = {
        "task": "detection",
        "labels": list(config.labels),
        "data": {source.name: source.digest},
        "score_threshold": config.score_threshold,
        "iou_threshold": config.iou_threshold,
        "metrics": {source.name: metrics.as_dict()},
    }
    run.write_details(details)
    plot_learning_curves(run.log, run.plots / "learning_curves.png")
    draw_dev_batch(dev, found, threshold, run.plots / "dev_batch.png")
    return metrics


def draw_labelled_batch(batches: TrainingBatches, path: Path) -> None:
    """Draws augmented training images with the boxes that the loss sees."""
    images, labels = batches[0]
    truths = [rows[rows[:, 4] >= 0] for rows in labels["predictions"][:SHOWN]]
    draw_batch(
        list(images[:SHOWN]),
        [Detections(t[:, :4], np.ones(len(t)), t[:, 4].astype(np.int32)) for t in truths],
        batches.config.labels,
        path,
    )


def draw_dev_batch(
    dev: DevPart, found: list[Detections], score_threshold: float, path: Path
) -> None:
    """Draws dev images with what was found above the threshold."""
    images = [read_image(image.path) for image in dev.images[:SHOWN]]
    shown = [detections.above(score_threshold) for detections in found[:SHOWN]]
    draw_batch(images, shown, dev.config.labels, path)
