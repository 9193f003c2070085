"""Training of the segmentation model: sources in, run folder out."""

import logging
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from models.common.config import save_config
from models.common.plots import plot_learning_curves
from models.common.run_folder import RunFolder
from models.common.seeding import set_seed
from models.common.splits import DEV, TRAIN, DataError
from models.common.training import FitPlan, fit_run, make_schedule, set_precision, start_from
from models.segmentation.config import SegmentationConfig, TrainingConfig
from models.segmentation.data import (
    CropSequence,
    Example,
    Source,
    class_frequencies,
    look_shares,
)
from models.segmentation.losses import SegmentationLoss, class_weights
from models.segmentation.metrics import Metrics, Scores
from models.segmentation.network import build_network, mirrored
from models.segmentation.pictures import draw_panels, draw_training_batch

logger = logging.getLogger(__name__)

MONITOR = "val_mean_iou"
PICTURED_CROPS = 12
PICTURED_IMAGES = 6


def train(
    config: SegmentationConfig,
    sources: Sequence[Source],
    run: RunFolder,
    weights: Path | None = None,
) -> dict[str, dict[str, object]]:
    """Trains a U-Net and writes its run folder; an interrupted run resumes where it stopped.

    Args:
        config: what to train.
        sources: labelled images; their train parts are learned, their dev parts choose the epoch.
        run: where everything is written.
        weights: a `.weights.h5` file to start from, or None.

    Returns:
        Dev metrics of the best epoch by source name.

    Raises:
        DataError: if there is no train or no dev part.
    """
    examples = [e for source in sources for e in source.splits.get(TRAIN, [])]
    dev = {source.name: source.splits[DEV] for source in sources if source.splits.get(DEV)}
    if not examples or not dev:
        names = ", ".join(source.name for source in sources)
        raise DataError(f"training needs a train and a dev part; sources: {names}")
    set_seed(config.training.seed)
    set_precision(config.training.precision)
    run.create()
    save_config(config, run.config)
    every_dev = [example for part in dev.values() for example in part]
    logger.info("training images: %d, dev images: %d", len(examples), len(every_dev))

    network = build_network(config.network, len(config.labels))
    start_from(network, weights, config.training.frozen)
    _fit(network, config, examples, every_dev, run)

    network = _best_network(config, run)
    metrics = {name: score(network, part, config.labels).as_dict() for name, part in dev.items()}
    run.write_details(
        {
            "task": "segmentation",
            "labels": list(config.labels),
            "data": {source.name: source.digest for source in sources},
            "metrics": metrics,
        }
    )
    plot_learning_curves(run.log, run.plots / "learning_curves.png")
    shown = every_dev[:PICTURED_IMAGES]
    masks = [predict_mask(network, example.image) for example in shown]
    draw_panels(shown, masks, config.labels, run.plots / "dev_batch.png")
    return metrics


def _fit(
    network: keras.Model,
    config: SegmentationConfig,
    examples: Sequence[Example],
    dev: Sequence[Example],
    run: RunFolder,
) -> None:
    training = config.training
    batches = CropSequence(
        examples,
        config.augmentation,
        training.batch_size,
        training.crops_per_image,
        training.seed,
        look_shares(examples, training.balance_looks),
    )
    images, targets, _ = batches[0]
    draw_training_batch(
        images[:PICTURED_CROPS],
        targets["logits"][:PICTURED_CROPS],
        config.labels,
        run.plots / "training_batch.png",
    )
    frequencies = class_frequencies(examples, len(config.labels)).tolist()
    compile_network(network, training, frequencies, steps=len(batches) * training.epochs)
    plan = FitPlan(training.epochs, MONITOR, training.patience, averaged=training.ema > 0)
    fit_run(network, batches, run, plan, [DevScores(dev, config.labels)])


def compile_network(
    network: keras.Model, config: TrainingConfig, frequencies: Sequence[float], steps: int
) -> None:
    """Sets optimiser and loss.

    Args:
        network: what `build_network` returned.
        config: how it learns.
        frequencies: of the classes, see `class_frequencies`.
        steps: of the whole run.
    """
    averages = {"use_ema": True, "ema_momentum": config.ema} if config.ema else {}
    optimizer = keras.optimizers.AdamW(
        make_schedule(config.schedule, steps),
        weight_decay=config.weight_decay,
        global_clipnorm=config.clip_norm,
        **averages,
    )
    weights = class_weights(frequencies, config.class_weight_power)
    network.compile(
        optimizer,
        loss={"logits": SegmentationLoss(weights, config.dice_weight)},
        jit_compile=keras.backend.backend() == "jax",
    )


class DevScores(keras.callbacks.Callback):
    """Puts mean IoU, dice and pixel accuracy on dev into each epoch's logs, as `val_...`."""

    def __init__(self, dev: Sequence[Example], labels: Sequence[str]) -> None:
        super().__init__()
        self.dev = dev
        self.labels = labels

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Scores the dev part."""
        metrics = score(self.model, self.dev, self.labels)
        if logs is not None:
            logs["val_mean_iou"] = metrics.mean_iou
            logs["val_dice"] = metrics.dice
            logs["val_pixel_accuracy"] = metrics.pixel_accuracy


def score(network: keras.Model, examples: Sequence[Example], labels: Sequence[str]) -> Metrics:
    """Predicts each image by itself, untiled, and measures the masks."""
    scores = Scores(labels)
    for example in examples:
        scores.add(example.mask, predict_mask(network, example.image))
    return scores.metrics()


def predict_mask(network: keras.Model, image: np.ndarray) -> np.ndarray:
    """Returns the most probable class of each pixel.

    Args:
        network: what `build_network` returned.
        image: uint8 [H, W, 3].

    Returns:
        uint8 [H, W].
    """
    logits = network.predict_on_batch(image[None])["logits"]
    return logits[0].argmax(axis=-1).astype(np.uint8)


def _best_network(config: SegmentationConfig, run: RunFolder) -> keras.Model:
    """Returns the best epoch's network in float32, as it will be served."""
    set_precision("float32")
    network = build_network(config.network, len(config.labels))
    network.load_weights(run.best_weights)
    return mirrored(network) if config.mirrored else network
