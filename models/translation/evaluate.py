"""Evaluation of the translation model: metrics.json, translations and pictures."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.common.backends import Backend
from models.common.splits import ALL, DataError, choose_split
from models.translation.config import TranslationConfig
from models.translation.data import Item, Pair, load_source, references
from models.translation.dates import make_source
from models.translation.metrics import Metrics, bleu_by_length, compute_metrics
from models.translation.pictures import draw_attention, plot_bleu_by_length
from models.translation.predict import source_weights
from models.translation.signature import TranslationModel

BATCH_SIZE = 32
PICTURED_SENTENCES = 6
# Dates that no training run has seen: another seed, and the strings of its dev part alone.
UNSEEN_SEED = 2026
UNSEEN_DATES = 10_000


@dataclass(frozen=True)
class Subset:
    """The part of some data that is evaluated: its name and its pairs."""

    split: str
    pairs: list[Pair]


def load_pairs_to_evaluate(folder: Path, config: TranslationConfig, split: str | None) -> Subset:
    """Reads the split that `choose_split` picks.

    The dev split of a folder that has none is the part of train that training holds out.

    Raises:
        DataError: as `load_source` and `choose_split` do.
    """
    source = load_source(folder, config.languages, config.training.dev_fraction)
    name = choose_split(split, source.splits, str(folder))
    parts = source.splits.values() if name == ALL else [source.splits[name]]
    return Subset(name, [pair for part in parts for pair in part])


def unseen_dates(split: str | None) -> Subset:
    """Generates dates whose strings stand in no training part, whatever its seed.

    Raises:
        DataError: if another split than dev is asked for.
    """
    if split not in (None, "dev", "val"):
        raise DataError(f"generated dates have a dev split only; got {split!r}")
    source = make_source(1, seed=UNSEEN_SEED, dev_count=UNSEEN_DATES)
    return Subset("dev", source.splits["dev"])


def translate_all(backend: Backend, texts: Sequence[str]) -> list[str]:
    """Asks a backend for all texts, in batches of similar length; the order is kept."""
    rows = ask_all(backend, texts, ["translation"])
    return [translation.decode("utf-8", "replace") for (translation,) in rows]


def ask_all(
    backend: Backend, texts: Sequence[str], outputs: Sequence[str]
) -> list[tuple[Any, ...]]:
    """Returns the named outputs of `serving_default` for each text, in the order of the texts."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    answers: dict[int, tuple[Any, ...]] = {}
    for start in range(0, len(order), BATCH_SIZE):
        rows = order[start : start + BATCH_SIZE]
        batch = np.array([texts[i].encode() for i in rows], dtype=object)
        found = backend.run_signature({"text": batch})
        columns = zip(*(found[name] for name in outputs), strict=True)
        answers.update(zip(rows, columns, strict=True))
    return [answers[i] for i in range(len(texts))]


def evaluate(
    backend: Backend, pairs: Sequence[Pair], config: TranslationConfig, output: Path
) -> Metrics:
    """Measures a backend; writes `metrics.json`, `translations.csv` and `bleu_by_length.png`.

    Every distinct source sentence is translated once, and compared with all its references.

    Args:
        backend: answers `serving_default`.
        pairs: sentences with their translations; a source with several has several references.
        config: with `tokenizer.lowercase`, case does not count.
        output: folder to write to; made if missing.
    """
    output.mkdir(parents=True, exist_ok=True)
    items = references(pairs)
    found = translate_all(backend, [item.source for item in items])
    known = [item.references for item in items]
    metrics = compute_metrics(found, known, config.tokenizer.lowercase)
    (output / "metrics.json").write_text(
        json.dumps(metrics.as_dict(), indent=2) + "\n", encoding="utf-8"
    )
    lengths = [len(item.source.split()) for item in items]
    by_length = bleu_by_length(found, known, lengths, lowercase=config.tokenizer.lowercase)
    plot_bleu_by_length(by_length, output / "bleu_by_length.png")
    _write_translations(items, found, output / "translations.csv")
    return metrics


def draw_attention_maps(model: TranslationModel, pairs: Sequence[Pair], output: Path) -> None:
    """Draws where the model looks, for sentences of all lengths: `attention-1.png` ..."""
    by_length = sorted({pair.source for pair in pairs}, key=lambda text: (len(text), text))
    places = np.linspace(0, len(by_length) - 1, min(PICTURED_SENTENCES, len(by_length)))
    texts = [by_length[round(place)] for place in places]
    for number, (text, translation) in enumerate(
        zip(texts, translate_all(model, texts), strict=True), start=1
    ):
        source = model.tokenizer.encode(text).ids
        target = model.tokenizer.encode(translation).ids
        weights = source_weights(model.network, source, target[:-1])
        tokens = model.tokenizer.pieces_of
        path = output / f"attention-{number}.png"
        draw_attention(tokens(source), tokens(target), weights, path)


def _write_translations(items: Sequence[Item], found: Sequence[str], path: Path) -> None:
    """Writes each sentence, its translation and its references."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["exact", "source", "translation", "references"])
        for item, translation in zip(items, found, strict=True):
            exact = int(translation in item.references)
            writer.writerow([exact, item.source, translation, " | ".join(item.references)])
