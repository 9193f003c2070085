"""Training of the sentiment classifier: sources in, run folder out."""

import csv
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from models.common.callbacks import tensorboard_callbacks
from models.common.config import save_config
from models.common.plots import plot_learning_curves
from models.common.run_folder import RunFolder
from models.common.seeding import set_seed
from models.sentiment.calibration import calibrated_sum, fit_temperatures, softmax
from models.sentiment.config import SentimentConfig, TrainingConfig
from models.sentiment.data import (
    BatchSequence,
    Corpus,
    EncodedExample,
    Source,
    bucket_length,
    build_corpus,
    check_leakage,
    encode,
)
from models.sentiment.embeddings import initial_embeddings
from models.sentiment.linear import LinearSizes, fit_linear
from models.sentiment.metrics import Metrics, compute_metrics
from models.sentiment.network import RECURRENT, SentimentNetwork, build_network
from models.sentiment.tokenizer import build_vocabulary, make_tokenizer
from protocol.tokenizer import WordTokenizer

logger = logging.getLogger(__name__)

# What gradient descent improves; the linear part is fitted.
TRAINED_OUTPUT = RECURRENT


def train(
    config: SentimentConfig, sources: Sequence[Source], run: RunFolder, glove: Path | None = None
) -> dict[str, dict[str, float]]:
    """Trains a classifier and writes its run folder; an interrupted run resumes where it stopped.

    Args:
        config: what to train.
        sources: labelled texts; their test splits are only used to keep training texts apart.
        run: where everything is written.
        glove: word vectors to start from, see `initial_embeddings`.

    Returns:
        Dev metrics of the best epoch by source name.

    Raises:
        DataError: if the sources cannot be trained on.
    """
    set_seed(config.training.seed)
    run.create()
    save_config(config, run.config)
    corpus = build_corpus(sources)
    check_leakage(corpus)
    _log_corpus(corpus)

    tokenizer = _fit_tokenizer(config, corpus)
    tokenizer.save(run.assets)
    examples = encode(corpus.train, tokenizer)
    dev = {name: DevPart.of(encode(part, tokenizer)) for name, part in corpus.dev.items()}

    network = build_network(config.network, config.tokenizer.vocabulary_size, len(config.labels))
    _initialise(network, config, tokenizer, examples, glove)
    _fit(network, config.training, examples, dev, run)

    network.model.load_weights(run.best_weights)
    metrics = {name: found.as_dict() for name, found in calibrate(network, dev).items()}
    temperatures = network.classify.get_layer("calibration").temperatures
    run.write_details(
        {
            "task": "sentiment",
            "labels": list(config.labels),
            "data": corpus.digests,
            "dropped_training_texts": corpus.dropped,
            "temperatures": keras.ops.convert_to_numpy(temperatures).tolist(),
            "metrics": metrics,
        }
    )
    plot_learning_curves(run.log, run.plots / "learning_curves.png")
    return metrics


def _log_corpus(corpus: Corpus) -> None:
    logger.info("training texts: %d", len(corpus.train))
    for name, count in corpus.dropped.items():
        logger.info("%s: %d training texts left out as copies", name, count)
    for name, part in corpus.dev.items():
        logger.info("dev texts of %s: %d", name, len(part))


def _fit_tokenizer(config: SentimentConfig, corpus: Corpus) -> WordTokenizer:
    splitter = make_tokenizer(config.tokenizer, [])
    words = (splitter.words(example.text) for example in corpus.train)
    vocabulary = build_vocabulary(words, config.tokenizer.vocabulary_size)
    return make_tokenizer(config.tokenizer, vocabulary)


def _initialise(
    network: SentimentNetwork,
    config: SentimentConfig,
    tokenizer: WordTokenizer,
    examples: Sequence[EncodedExample],
    glove: Path | None,
) -> None:
    """Puts word vectors and the linear part into the network's tables."""
    embedding = network.embed.get_layer("embedding")
    matrix, found = initial_embeddings(
        tokenizer.vocabulary, config.network.embedding_units, glove, config.training.seed
    )
    logger.info("word vectors found for %d of %d words", found, len(tokenizer.vocabulary))
    rows = keras.ops.convert_to_numpy(embedding.embeddings)
    embedding.embeddings.assign(np.concatenate([matrix, rows[len(matrix) :]]))
    if config.network.pair_buckets:
        _fit_linear_part(network, config, examples)


def _fit_linear_part(
    network: SentimentNetwork, config: SentimentConfig, examples: Sequence[EncodedExample]
) -> None:
    started = time.perf_counter()
    tables = fit_linear(
        [example.token_ids for example in examples],
        np.array([example.class_id for example in examples]),
        len(config.labels),
        LinearSizes(config.tokenizer.vocabulary_size, config.network.pair_buckets),
        config.training.linear_inverse_regularization,
    )
    linear = network.classify.get_layer("linear")
    linear.word_table.assign(tables.words)
    linear.pair_table.assign(tables.pairs)
    logger.info("linear part fitted in %.0f s", time.perf_counter() - started)


@dataclass(frozen=True)
class DevPart:
    """One source's dev texts: token ids int32 [T] of each, and class ids int [N]."""

    token_ids: list[np.ndarray]
    class_ids: np.ndarray

    @classmethod
    def of(cls, examples: Sequence[EncodedExample]) -> "DevPart":
        """Splits examples into ids and classes."""
        class_ids = np.array([example.class_id for example in examples])
        return cls([example.token_ids for example in examples], class_ids)


class Calibration(keras.callbacks.Callback):
    """Fits the temperatures on dev after each epoch, and scores the calibrated sum.

    Every source has the same weight. Adds each source's accuracy to the epoch's logs, as
    `val_accuracy_<source>`, and `val_accuracy`, their mean.
    """

    def __init__(self, network: SentimentNetwork, dev: Mapping[str, DevPart]) -> None:
        super().__init__()
        self.network = network
        self.dev = dev

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Fits and scores."""
        metrics = calibrate(self.network, self.dev)
        scores = {f"val_accuracy_{name}": m.accuracy for name, m in metrics.items()}
        scores["val_accuracy"] = float(np.mean(list(scores.values())))
        if logs is not None:
            logs.update(scores)
        print("  ".join(f"{name} {score:.4f}" for name, score in scores.items()), flush=True)


def calibrate(network: SentimentNetwork, dev: Mapping[str, DevPart]) -> dict[str, Metrics]:
    """Sets the network's temperatures to those that fit the dev parts best.

    Returns:
        The metrics of the calibrated network by source.
    """
    layer = network.classify.get_layer("calibration")
    parts = {
        source: predict_logits(network.model, part.token_ids, network.parts)
        for source, part in dev.items()
    }
    temperatures = fit_temperatures(
        np.concatenate(list(parts.values()), axis=1),
        np.concatenate([part.class_ids for part in dev.values()]),
        np.concatenate([np.full(len(p.class_ids), 1 / len(p.class_ids)) for p in dev.values()]),
    )
    layer.temperatures.assign(temperatures)
    return {
        source: compute_metrics(
            part.class_ids, softmax(calibrated_sum(parts[source], temperatures))
        )
        for source, part in dev.items()
    }


def _fit(
    network: SentimentNetwork,
    config: TrainingConfig,
    examples: Sequence[EncodedExample],
    dev: Mapping[str, DevPart],
    run: RunFolder,
) -> None:
    model = network.model
    batches = BatchSequence(
        examples,
        [TRAINED_OUTPUT],
        config.batch_size,
        seed=config.seed,
        crop_probability=config.crop_probability,
    )
    compile_model(model, config, steps=len(batches) * config.epochs)
    best = {"monitor": "val_accuracy", "mode": "max"}
    # Left to the first step, its variables would make TensorFlow trace that step twice.
    model.optimizer.build(model.trainable_variables)
    resuming = run.backup.exists()
    callbacks = keras.callbacks
    model.fit(
        batches,
        epochs=config.epochs,
        callbacks=[
            Calibration(network, dev),
            callbacks.ModelCheckpoint(
                run.best_weights,
                save_best_only=True,
                save_weights_only=True,
                initial_value_threshold=_best_in_log(run.log) if resuming else None,
                **best,
            ),
            callbacks.ModelCheckpoint(run.last_weights, save_weights_only=True),
            callbacks.CSVLogger(run.log, append=resuming),
            *tensorboard_callbacks(run.tensorboard),
            callbacks.EarlyStopping(patience=config.patience, **best),
            callbacks.BackupAndRestore(run.backup, delete_checkpoint=True),
        ],
    )


def _best_in_log(log: Path) -> float | None:
    """Returns an interrupted run's best dev accuracy: a worse epoch must not replace it."""
    if not log.is_file():
        return None
    with log.open(encoding="utf-8", newline="") as file:
        return max((float(row["val_accuracy"]) for row in csv.DictReader(file)), default=None)


def compile_model(model: keras.Model, config: TrainingConfig, steps: int) -> None:
    """Sets optimiser and loss.

    Adam (Kingma and Ba 2015) with a linear warm-up and a cosine decay over `steps`; cross-entropy
    of the recurrent part alone, since the linear part is fitted already and would hide its errors.
    """
    warmup = min(config.warmup_steps, steps // 10)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0,
        max(1, steps - warmup),
        alpha=0.02,
        warmup_target=config.learning_rate,
        warmup_steps=warmup,
    )
    model.compile(
        keras.optimizers.Adam(schedule, clipnorm=config.clip_norm),
        loss={TRAINED_OUTPUT: keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
        jit_compile=keras.backend.backend() == "jax",
    )


def predict_logits(
    model: keras.Model,
    token_ids: Sequence[np.ndarray],
    outputs: Sequence[str] = ("logits",),
    batch_size: int = 64,
) -> np.ndarray:
    """Computes logits for texts of mixed length, batching those of similar length.

    Args:
        model: the network's `model`.
        token_ids: int32 [T] for each text.
        outputs: which of its outputs to return.
        batch_size: rows of a batch.

    Returns:
        float32 [outputs, N, classes], texts in the order given.
    """
    by_length: dict[int, list[int]] = {}
    for i, ids in enumerate(token_ids):
        by_length.setdefault(bucket_length(len(ids)), []).append(i)
    order: list[int] = []
    logits: list[np.ndarray] = []
    for length, rows in sorted(by_length.items()):
        for start in range(0, len(rows), batch_size):
            chosen = rows[start : start + batch_size]
            batch = np.zeros((batch_size, length), np.int32)
            for row, i in enumerate(chosen):
                batch[row, : len(token_ids[i])] = token_ids[i]
            found = model.predict_on_batch(batch)
            order += chosen
            logits.append(np.stack([found[name][: len(chosen)] for name in outputs]))
    return np.concatenate(logits, axis=1)[:, np.argsort(order)]
