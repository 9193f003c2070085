"""Trains the translation model and writes a run folder.

Teacher forcing: the network sees the true tokens before each one that it has to predict. Adam
(Kingma and Ba 2015) with the second moment's decay of Vaswani et al. 2017, section 5.3.
"""

import logging
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from models.common.config import save_config
from models.common.plots import plot_learning_curves
from models.common.run_folder import RunFolder
from models.common.seeding import set_seed
from models.common.training import FitPlan, fit_run, make_schedule, set_precision, start_from
from models.translation.config import TrainingConfig, TranslationConfig
from models.translation.data import (
    BatchSequence,
    Corpus,
    EncodedPair,
    Item,
    Source,
    build_corpus,
    check_leakage,
    encode_pairs,
    references,
)
from models.translation.losses import SmoothedCrossEntropy
from models.translation.metrics import Metrics, bleu, compute_metrics
from models.translation.network import build_network
from models.translation.pictures import Sample, draw_attention, write_samples
from models.translation.predict import Searcher, mean_loss, source_weights, translate
from models.translation.tokenizer import train_tokenizer
from protocol.subwords import SubwordTokenizer

logger = logging.getLogger(__name__)

MONITOR = "val_bleu"
SHOWN_SAMPLES = 20
# The longer side of a training pair may have this many times the tokens of the shorter one.
MAX_RATIO = 4.0


def train(
    config: TranslationConfig,
    sources: Sequence[Source],
    run: RunFolder,
    weights: Path | None = None,
) -> dict[str, dict[str, object]]:
    """Trains on the training pairs of all sources; resumes where a killed run stopped.

    Args:
        config: what to train.
        sources: data; each brings its own dev part.
        run: where to.
        weights: a `.weights.h5` file of an earlier run with the same tokenizer, or None.

    Returns:
        Dev metrics by source.

    Raises:
        DataError: if there is no training or no dev part.
    """
    corpus = build_corpus(sources)
    check_leakage(corpus)
    set_seed(config.training.seed)
    set_precision(config.training.precision)
    run.create()
    save_config(config, run.config)
    tokenizer = _tokenizer(config, corpus, run)
    encoded, skipped = encode_pairs(corpus.train, tokenizer, MAX_RATIO)
    logger.info(
        "training pairs: %d (left out: %s), vocabulary: %d",
        len(encoded),
        ", ".join(f"{reason} {count}" for reason, count in skipped.items()),
        tokenizer.vocabulary_size,
    )
    dev = {name: references(pairs) for name, pairs in corpus.dev.items()}

    network = build_network(config, tokenizer.vocabulary_size)
    start_from(network, weights)
    _fit(network, config, encoded, tokenizer, dev, run)

    network = best_network(config, tokenizer, dev, run)
    metrics = _final_metrics(network, config, tokenizer, corpus, dev)
    details = {name: found.as_dict() for name, found in metrics.items()}
    run.write_details(
        {"task": "translation", "labels": [], "data": corpus.digests, "metrics": details}
    )
    plot_learning_curves(run.log, run.plots / "learning_curves.png")
    return details


def _tokenizer(config: TranslationConfig, corpus: Corpus, run: RunFolder) -> SubwordTokenizer:
    """Learns the tokenizer, or reads that of the run that is resumed."""
    if run.assets.is_dir() and any(run.assets.iterdir()):
        return SubwordTokenizer.from_folder(run.assets)
    texts = (text for pair in corpus.train for text in (pair.source, pair.target))
    tokenizer = train_tokenizer(texts, config.tokenizer)
    tokenizer.save(run.assets)
    return tokenizer


def _fit(
    network: keras.Model,
    config: TranslationConfig,
    pairs: Sequence[EncodedPair],
    tokenizer: SubwordTokenizer,
    dev: dict[str, list[Item]],
    run: RunFolder,
) -> None:
    training = config.training
    epoch = finished_epochs(run)
    batches = BatchSequence(pairs, training.batch_tokens, training.seed, epoch=epoch)
    logger.info(
        "batches: %d of %d shapes, %.0f %% padding",
        len(batches),
        len(batches.shapes),
        100 * batches.padding_share,
    )
    compile_network(network, training, steps=len(batches) * training.epochs)
    items = [item for part in dev.values() for item in part][: training.dev_sentences]
    plan = FitPlan(training.epochs, MONITOR, training.patience)
    scorers = [
        DevScores(config, tokenizer, items, run),
        KeepCheckpoints(run.path / "checkpoints", training.averaged_checkpoints),
    ]
    fit_run(network, batches, run, plan, scorers)


def finished_epochs(run: RunFolder) -> int:
    """Returns how many epochs an interrupted run has behind it."""
    if not run.backup.is_dir() or not run.log.is_file():
        return 0
    return len(run.log.read_text(encoding="utf-8").splitlines()) - 1


def compile_network(network: keras.Model, config: TrainingConfig, steps: int) -> None:
    """Sets optimiser and loss; `steps` are those of the whole run."""
    optimizer = keras.optimizers.Adam(
        make_schedule(config.schedule, steps),
        beta_2=0.98,
        epsilon=1e-9,
        global_clipnorm=config.clip_norm,
    )
    network.compile(
        optimizer,
        loss={"logits": SmoothedCrossEntropy(config.label_smoothing)},
        jit_compile=keras.backend.backend() == "jax",
    )


class DevScores(keras.callbacks.Callback):
    """Translates dev sentences after each epoch: `val_bleu`, samples, an attention picture.

    Args:
        config: of the model.
        tokenizer: of both languages.
        items: dev sentences with their references.
        run: its `plots` get `samples/epoch-XX.tsv` and `attention/epoch-XX.png`.
    """

    def __init__(
        self,
        config: TranslationConfig,
        tokenizer: SubwordTokenizer,
        items: Sequence[Item],
        run: RunFolder,
    ) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.items = items
        self.run = run
        self.searcher: Searcher | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Scores greedy translations, which order epochs as beam search would."""
        if self.searcher is None:
            self.searcher = Searcher(self.model, self.config.decoding, beam_width=1)
        sources = [item.source for item in self.items]
        found = translate(self.searcher, self.tokenizer, sources)
        references = [item.references for item in self.items]
        score = bleu(found, references, self.config.tokenizer.lowercase).score
        if logs is not None:
            logs[MONITOR] = score
        samples = [
            Sample(item.source, item.references[0], translation)
            for item, translation in zip(self.items, found, strict=True)
        ]
        write_samples(_numbered(self.run.plots / "samples", epoch, "tsv"), samples[:SHOWN_SAMPLES])
        self._draw_attention(samples[0], _numbered(self.run.plots / "attention", epoch, "png"))

    def _draw_attention(self, sample: Sample, path: Path) -> None:
        source = self.tokenizer.encode(sample.source).ids
        target = self.tokenizer.encode(sample.translation).ids
        weights = source_weights(self.model, source, target[:-1])
        tokens = self.tokenizer.pieces_of
        draw_attention(tokens(source), tokens(target), weights, path)


def _numbered(folder: Path, epoch: int, suffix: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"epoch-{epoch + 1:02d}.{suffix}"


class KeepCheckpoints(keras.callbacks.Callback):
    """Keeps the weights of the last epochs.

    Args:
        folder: gets `epoch-XX.weights.h5`.
        count: how many are kept.
    """

    def __init__(self, folder: Path, count: int) -> None:
        super().__init__()
        self.folder = folder
        self.count = count

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Stores this epoch's and deletes the oldest."""
        self.model.save_weights(_numbered(self.folder, epoch, "weights.h5"))
        for path in checkpoints(self.folder)[: -self.count]:
            path.unlink()


def checkpoints(folder: Path) -> list[Path]:
    """Returns the kept checkpoints, oldest first."""
    return sorted(folder.glob("epoch-*.weights.h5"))


def average_weights(network: keras.Model, paths: Sequence[Path]) -> None:
    """Gives the network the mean of the weights in several files.

    Source: Vaswani et al. 2017, section 6.1.
    """
    total: list[np.ndarray] = []
    for path in paths:
        network.load_weights(path)
        weights = network.get_weights()
        total = [a + b for a, b in zip(total, weights, strict=True)] if total else weights
    network.set_weights([weight / len(paths) for weight in total])


def best_network(
    config: TranslationConfig,
    tokenizer: SubwordTokenizer,
    dev: dict[str, list[Item]],
    run: RunFolder,
) -> keras.Model:
    """Returns the better on dev of the best epoch and the mean of the last ones, in float32.

    The winner becomes the run's best weights, and the checkpoints are deleted.
    """
    set_precision("float32")
    network = build_network(config, tokenizer.vocabulary_size)
    searcher = Searcher(network, config.decoding, beam_width=1)
    items = [item for part in dev.values() for item in part]

    def score() -> float:
        found = translate(searcher, tokenizer, [item.source for item in items])
        references = [item.references for item in items]
        return bleu(found, references, config.tokenizer.lowercase).score

    network.load_weights(run.best_weights)
    folder = run.path / "checkpoints"
    paths = checkpoints(folder)
    if len(paths) > 1:
        of_best = score()
        average_weights(network, paths)
        of_mean = score()
        logger.info(
            "dev BLEU: best epoch %.2f, mean of the last %d %.2f", of_best, len(paths), of_mean
        )
        if of_mean > of_best:
            network.save_weights(run.best_weights)
        else:
            network.load_weights(run.best_weights)
    shutil.rmtree(folder, ignore_errors=True)
    return network


def _final_metrics(
    network: keras.Model,
    config: TranslationConfig,
    tokenizer: SubwordTokenizer,
    corpus: Corpus,
    dev: dict[str, list[Item]],
) -> dict[str, Metrics]:
    searcher = Searcher(network, config.decoding)
    metrics = {}
    for name, items in dev.items():
        found = translate(searcher, tokenizer, [item.source for item in items])
        encoded, _ = encode_pairs(corpus.dev[name], tokenizer)
        metrics[name] = compute_metrics(
            found,
            [item.references for item in items],
            config.tokenizer.lowercase,
            perplexity=math.exp(mean_loss(network, encoded)),
        )
    return metrics
