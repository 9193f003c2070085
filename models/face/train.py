"""Training of the face recogniser: a source in, a run folder out."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np

from models.common.config import save_config
from models.common.plots import plot_learning_curves
from models.common.run_folder import RunFolder
from models.common.seeding import set_seed
from models.common.splits import DEV, TRAIN, DataError
from models.common.training import FitPlan, fit_run, make_schedule, set_precision, start_from
from models.face.augmentation import Augmenter, to_network_values
from models.face.batches import IdentityBatches, read_people
from models.face.config import FaceConfig, NetworkConfig
from models.face.data import FaceSet, Source
from models.face.discriminants import fit_discriminants
from models.face.losses import losses_by_output
from models.face.metrics import BEST_ACCURACY, derive_thresholds, squared_distances
from models.face.network import (
    COSINES,
    DISCRIMINANTS,
    EMBEDDING,
    FaceNetwork,
    build_network,
    build_trainer,
)
from models.face.pairs import all_pairs, as_arrays, balanced_pairs
from models.face.pictures import draw_batch, draw_embeddings, draw_worst_pairs
from models.face.scores import Scores, score

logger = logging.getLogger(__name__)

MONITOR = "val_roc_auc"
BATCH_SIZE = 128


def train(
    config: FaceConfig, source: Source, run: RunFolder, weights: Path | None = None
) -> dict[str, float]:
    """Trains a recogniser and writes its run folder; an interrupted run resumes where it stopped.

    Args:
        config: what to train.
        source: faces with a train and a dev split; a test split is never looked at.
        run: where everything is written.
        weights: `best.weights.h5` of a finished run to start from. Its fitted half is replaced,
            unless `training.frozen` names it.

    Returns:
        Dev metrics of the best epoch.

    Raises:
        DataError: if the source cannot be trained on.
        FileNotFoundError: if there is no such weights file.
    """
    set_seed(config.training.seed)
    set_precision(config.training.precision)
    run.create()
    save_config(config, run.config)
    dev = DevPart.of(_split(source, DEV), config.network)
    people = read_people(_split(source, TRAIN), config)
    batches = IdentityBatches(people, config)
    logger.info("training identities: %d, pictures: %d", len(people), sum(map(len, people)))
    logger.info("dev pictures: %d, balanced pairs: %d", len(dev.images), dev.balanced.sum())
    draw_batch(batches[0][0], config.training.images_per_identity, run.plots / "train_batch.png")

    network = build_network(config.network)
    start_from(network.embedder, weights, config.training.frozen)
    trainer = build_trainer(network.learned, len(people) if config.loss.angular_weight else 0)
    if DISCRIMINANTS not in config.training.frozen:
        fit_half(network, people, config)
    compile_trainer(trainer, config, len(batches))
    fit_run(trainer, batches, run, _plan(config), [DevScores(network, config, dev)])
    return finish(network, config, source, run, dev)


def _split(source: Source, name: str) -> FaceSet:
    if name not in source.splits:
        raise DataError(
            f"{source.name} has no {name} split, training needs one; "
            f"it has: {', '.join(sorted(source.splits))}"
        )
    return source.splits[name]


def _plan(config: FaceConfig) -> FitPlan:
    training = config.training
    averaged = training.average_momentum > 0
    return FitPlan(training.epochs, MONITOR, training.patience, averaged=averaged)


@dataclass(frozen=True)
class DevPart:
    """What dev is scored on.

    Attributes:
        faces: the faces.
        images: the same as the network sees them, float32 [N, S, S, 3].
        rows: all pairs among them, int [P, 2].
        same: whether a pair is one person, bool [P].
        balanced: which pairs belong to the balanced list, bool [P].
    """

    faces: FaceSet
    images: np.ndarray
    rows: np.ndarray
    same: np.ndarray
    balanced: np.ndarray

    @classmethod
    def of(cls, faces: FaceSet, config: NetworkConfig) -> "DevPart":
        """Reads the faces and lists their pairs.

        Raises:
            DataError: if a file cannot be read, or there are not two pictures of one person and
                pictures of two.
        """
        rows, same = as_arrays(all_pairs(faces))
        if not same.any() or same.all():
            raise DataError("dev needs two pictures of one person, and pictures of two persons")
        chosen = {(pair.first, pair.second) for pair in balanced_pairs(faces)}
        balanced = np.array([(int(a), int(b)) in chosen for a, b in rows])
        images = np.stack([to_network_values(face.pixels(), config) for face in faces.faces])
        return cls(faces, images, rows, same, balanced)


class DevScores(keras.callbacks.Callback):
    """Scores dev in the first epoch and then every few, and puts the scores into the logs.

    Epochs in between repeat the scores before.
    """

    def __init__(self, network: FaceNetwork, config: FaceConfig, dev: DevPart) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.dev = dev
        self._scores: dict[str, float] = {}

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Scores, if it is time."""
        last = epoch + 1 == self.config.training.epochs
        if not self._scores or last or epoch % self.config.training.score_every == 0:
            self._scores = self._measure()
        if logs is not None:
            logs.update(self._scores)

    def _measure(self) -> dict[str, float]:
        embeddings = embed_images(self.network.embedder, self.dev.images, self.config.network)
        found = score_dev(embeddings, self.dev)
        scores = {"val_accuracy": found.accuracy, MONITOR: found.roc_auc}
        if self.network.projection is not None:
            learned = unit_rows(embeddings[:, : self.network.learned.output.shape[-1]])
            scores[f"{MONITOR}_learned"] = score_dev(learned, self.dev).roc_auc
        return scores


def score_dev(embeddings: np.ndarray, dev: DevPart) -> Scores:
    """Measures embeddings on the balanced dev pairs, with thresholds derived on dev itself."""
    rows, same = dev.rows[dev.balanced], dev.same[dev.balanced]
    return score(embeddings, dev.faces.identities, rows, same, dev_thresholds(embeddings, dev))


def dev_thresholds(embeddings: np.ndarray, dev: DevPart) -> dict[str, float]:
    """Derives the thresholds: best accuracy on the balanced pairs, rates on all pairs."""
    return derive_thresholds(squared_distances(embeddings, dev.rows), dev.same, dev.balanced)


def fit_half(
    network: FaceNetwork, people: Sequence[Sequence[np.ndarray]], config: FaceConfig
) -> None:
    """Fits the half of the embedding that is not learned, in closed form.

    Args:
        network: its `projection` is filled.
        people: pictures of each training identity, see `IdentityBatches`.
        config: of the network and the fit.
    """
    fitted = config.network.discriminants
    if network.projection is None:
        return
    started = time.perf_counter()
    pictures = [picture for own in people for picture in own]
    identities = np.repeat(np.arange(len(people)), [len(own) for own in people])
    features = [_features(network, images) for images in _views(pictures, config)]
    found = fit_discriminants(
        np.concatenate(features),
        np.tile(identities, len(features)),
        fitted.units,
        fitted.components,
        fitted.shrinkage,
        len(features) * config.training.most_images,
    )
    network.projection.set_weights([found.kernel, found.bias])
    logger.info("fitted half done in %.0f s", time.perf_counter() - started)


def _views(pictures: Sequence[np.ndarray], config: FaceConfig) -> Iterator[np.ndarray]:
    """Yields all pictures as the network sees them, mirrored, and moved at random."""
    fitted = config.network.discriminants
    images = np.stack([to_network_values(picture, config.network) for picture in pictures])
    yield images
    yield images[:, :, ::-1]
    moves = replace(
        config.augmentation, strength=fitted.strength, color=0.0, grey=0.0, blur=0.0, erase=0.0
    )
    move = Augmenter(moves, config.network, np.random.default_rng(config.training.seed))
    for _ in range(fitted.copies):
        yield np.stack([move(picture) for picture in pictures])


def _features(network: FaceNetwork, images: np.ndarray) -> np.ndarray:
    return network.features.predict(images, BATCH_SIZE, verbose=0)


def embed_images(
    embedder: keras.Model, images: np.ndarray, config: NetworkConfig, batch_size: int = BATCH_SIZE
) -> np.ndarray:
    """Embeds pictures of the network's size.

    Args:
        embedder: image -> `embedding`.
        images: float [N, S, S, 3], values 0 to 255.
        config: says whether mirror images are averaged in.
        batch_size: rows of a batch; the last one is filled up, so that one shape is compiled.

    Returns:
        Unit vectors, float32 [N, 128].
    """
    parts = [np.zeros((0, embedder.output[EMBEDDING].shape[-1]), np.float32)]
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        padded = np.zeros((batch_size, *images.shape[1:]), np.float32)
        padded[: len(batch)] = batch
        found = embedder.predict_on_batch(padded)[EMBEDDING]
        if config.flip_average:
            found = found + embedder.predict_on_batch(padded[:, :, ::-1])[EMBEDDING]
        parts.append(unit_rows(found[: len(batch)]))
    return np.concatenate(parts)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Scales rows to length one, float32 [N, D]; rows of zeros stay."""
    lengths = np.sqrt(np.maximum(np.sum(vectors**2, axis=1, keepdims=True), 1e-12))
    return (vectors / lengths).astype(np.float32)


def compile_trainer(trainer: keras.Model, config: FaceConfig, steps_per_epoch: int) -> None:
    """Sets optimiser and losses: AdamW (Loshchilov and Hutter 2019), with averaged weights."""
    training, loss = config.training, config.loss
    averaged = training.average_momentum > 0
    optimizer = keras.optimizers.AdamW(
        make_schedule(training.schedule, steps_per_epoch * training.epochs),
        weight_decay=training.weight_decay,
        use_ema=averaged,
        ema_momentum=training.average_momentum if averaged else 0.99,
    )
    losses = losses_by_output(loss)
    shares = {EMBEDDING: loss.triplet_weight, COSINES: loss.angular_weight}
    trainer.compile(
        optimizer,
        loss=losses,
        loss_weights={name: shares[name] for name in losses},
        jit_compile=keras.backend.backend() == "jax",
    )


def finish(
    trained: FaceNetwork, config: FaceConfig, source: Source, run: RunFolder, dev: DevPart
) -> dict[str, float]:
    """Joins both halves in full precision, derives thresholds, and writes what a run consists of.

    `best.weights.h5`, which held what was trained, then holds the whole embedder.
    """
    set_precision("float32")
    network = build_network(config.network)
    network.learned.load_weights(run.best_weights)
    if network.projection is not None and trained.projection is not None:
        network.projection.set_weights(trained.projection.get_weights())
    network.embedder.save_weights(run.best_weights)
    embeddings = embed_images(network.embedder, dev.images, config.network)
    thresholds = dev_thresholds(embeddings, dev)
    metrics = score_dev(embeddings, dev).as_dict()
    run.write_details(
        {
            "task": "face",
            "labels": [],
            "data": {source.name: source.digest},
            "thresholds": thresholds,
            "metrics": {source.name: metrics},
        }
    )
    plot_learning_curves(run.log, run.plots / "learning_curves.png")
    _draw_dev(embeddings, dev, thresholds[BEST_ACCURACY], run.plots)
    return metrics


def _draw_dev(embeddings: np.ndarray, dev: DevPart, threshold: float, folder: Path) -> None:
    names = [face.identity for face in dev.faces.faces]
    draw_embeddings(embeddings, names, folder / "dev_embeddings.png")
    rows, same = dev.rows[dev.balanced], dev.same[dev.balanced]
    distances = squared_distances(embeddings, rows)
    draw_worst_pairs(dev.faces, rows, same, distances, threshold, folder / "dev_pairs.png")
