"""Training of the sentiment classifier: sources in, run folder out."""

import csv
import logging
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from models.common.callbacks import tensorboard_callbacks
from models.common.config import save_config
from models.common.plots import plot_learning_curves
from models.common.run_folder import RunFolder
from models.common.seeding import set_seed
from models.sentiment.calibration import fit_temperature, softmax
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
from models.sentiment.metrics import compute_metrics
from models.sentiment.naive_bayes import hash_bigrams, log_count_ratios
from models.sentiment.network import SentimentNetwork, build_network
from models.sentiment.tokenizer import build_vocabulary, make_tokenizer
from protocol.tokenizer import WordTokenizer

logger = logging.getLogger(__name__)


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
    dev = {name: encode(part, tokenizer) for name, part in corpus.dev.items()}

    network = build_network(config.network, config.tokenizer.vocabulary_size, len(config.labels))
    _initialise(network, config, tokenizer, examples, glove)
    _fit(network.model, config.training, examples, dev, run)

    network.model.load_weights(run.best_weights)
    details = _calibrate(network.model, dev)
    run.write_details(
        {
            "task": "sentiment",
            "labels": list(config.labels),
            "data": corpus.digests,
            "dropped_training_texts": corpus.dropped,
            **details,
        }
    )
    plot_learning_curves(run.log, run.plots / "learning_curves.png")
    metrics: dict[str, dict[str, float]] = details["metrics"]
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
    """Puts word vectors and naive Bayes evidence into the network's tables."""
    size, classes = config.tokenizer.vocabulary_size, len(config.labels)
    embedding = network.embed.get_layer("embedding")
    matrix, found = initial_embeddings(
        tokenizer.vocabulary, config.network.embedding_units, glove, config.training.seed
    )
    logger.info("word vectors found for %d of %d words", found, len(tokenizer.vocabulary))
    rows = keras.ops.convert_to_numpy(embedding.embeddings)
    embedding.embeddings.assign(np.concatenate([matrix, rows[len(matrix) :]]))
    if not config.network.bigram_buckets:
        return
    linear = network.classify.get_layer("linear")
    labels = [example.class_id for example in examples]
    words = [example.token_ids for example in examples]
    pairs = [hash_bigrams(ids, config.network.bigram_buckets) for ids in words]
    linear.word_table.assign(log_count_ratios(words, labels, (size, classes)))
    linear.bigram_table.assign(
        log_count_ratios(pairs, labels, (config.network.bigram_buckets, classes))
    )


class DevAccuracy(keras.callbacks.Callback):
    """Adds each source's dev accuracy, and `val_accuracy`, their mean, to the epoch's logs."""

    def __init__(self, dev: dict[str, list[EncodedExample]]) -> None:
        super().__init__()
        self.dev = dev

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Evaluates the dev parts."""
        scores = {}
        for name, examples in self.dev.items():
            logits = predict_logits(self.model, [example.token_ids for example in examples])
            truth = np.array([example.class_id for example in examples])
            scores[f"val_accuracy_{name}"] = float(np.mean(logits.argmax(axis=1) == truth))
        scores["val_accuracy"] = float(np.mean(list(scores.values())))
        if logs is not None:
            logs.update(scores)
        print("  ".join(f"{name} {score:.4f}" for name, score in scores.items()), flush=True)


def _fit(
    model: keras.Model,
    config: TrainingConfig,
    examples: Sequence[EncodedExample],
    dev: dict[str, list[EncodedExample]],
    run: RunFolder,
) -> None:
    batches = BatchSequence(
        examples,
        model.output_names,
        config.batch_size,
        seed=config.seed,
        crop_probability=config.crop_probability,
    )
    compile_model(model, config, steps=len(batches) * config.epochs)
    best = {"monitor": "val_accuracy", "mode": "max"}
    resuming = run.backup.exists()
    callbacks = keras.callbacks
    model.fit(
        batches,
        epochs=config.epochs,
        callbacks=[
            DevAccuracy(dev),
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
    """Returns the best dev accuracy of an interrupted run, so that a worse epoch can't replace it."""
    if not log.is_file():
        return None
    with log.open(encoding="utf-8", newline="") as file:
        return max((float(row["val_accuracy"]) for row in csv.DictReader(file)), default=None)


def compile_model(model: keras.Model, config: TrainingConfig, steps: int) -> None:
    """Sets optimiser and losses.

    Adam (Kingma and Ba 2015) with a linear warm-up and a cosine decay over `steps`; cross-entropy
    on the sum of both parts, and on each part alone so that neither leaves the work to the other.
    """
    warmup = min(config.warmup_steps, steps // 10)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warmup), alpha=0.02, warmup_target=config.learning_rate,
        warmup_steps=warmup,
    )
    loss = {
        name: keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        for name in model.output_names
    }
    weights = {name: config.auxiliary_weight for name in loss} | {"logits": 1.0}
    model.compile(
        keras.optimizers.Adam(schedule, clipnorm=config.clip_norm),
        loss=loss,
        loss_weights=weights,
        jit_compile=keras.backend.backend() == "jax",
    )


def predict_logits(
    model: keras.Model, token_ids: Sequence[np.ndarray], batch_size: int = 64
) -> np.ndarray:
    """Computes logits for texts of mixed length, batching those of similar length.

    Args:
        model: the network's `model`.
        token_ids: int32 [T] for each text.
        batch_size: rows of a batch.

    Returns:
        float32 [N, classes], in the order given.
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
            order += chosen
            logits.append(model.predict_on_batch(batch)["logits"][: len(chosen)])
    return np.concatenate(logits)[np.argsort(order)]


def _calibrate(model: keras.Model, dev: dict[str, list[EncodedExample]]) -> dict:  # type: ignore[type-arg]
    """Fits one temperature on all dev parts, each with the same total weight."""
    logits, truth, weights = {}, {}, {}
    for name, examples in dev.items():
        logits[name] = predict_logits(model, [example.token_ids for example in examples])
        truth[name] = np.array([example.class_id for example in examples])
        weights[name] = np.full(len(examples), 1 / len(examples))
    temperature = fit_temperature(*(np.concatenate(list(p.values())) for p in (logits, truth, weights)))
    metrics = {
        name: compute_metrics(truth[name], softmax(logits[name] / temperature)).as_dict()
        for name in dev
    }
    return {"temperature": temperature, "metrics": metrics}
