"""Evaluation of the sentiment classifier: metrics.json, pictures, and the texts it got wrong."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.common import plots
from models.common.backends import Backend
from models.common.splits import ALL, choose_split
from models.sentiment.data import Example, load_source
from models.sentiment.metrics import (
    Metrics,
    calibration_curve,
    compute_metrics,
    confusion_matrix,
)

BATCH_SIZE = 64


@dataclass(frozen=True)
class Predictions:
    """Answers for N texts: probabilities float [N, C], tokens int [N], truncated bool [N]."""

    probabilities: np.ndarray
    tokens: np.ndarray
    truncated: np.ndarray


def load_examples_to_evaluate(
    folder: Path, labels: Sequence[str], split: str | None, dev_fraction: float
) -> tuple[str, list[Example]]:
    """Reads the split that `choose_split` picks.

    The dev split of a folder that has none is the part of train that training holds out.

    Raises:
        DataError: as `load_source` and `choose_split` do.
    """
    source = load_source(folder, labels, dev_fraction)
    name = choose_split(split, source.splits, str(folder))
    if name == ALL:
        return name, [example for part in source.splits.values() for example in part]
    return name, source.splits[name]


def predict(backend: Backend, texts: Sequence[str]) -> Predictions:
    """Asks a backend for all texts, in batches of similar length; the order is kept."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    answers: list[tuple[np.ndarray, int, bool]] = [(np.zeros(0), 0, False)] * len(texts)
    for start in range(0, len(order), BATCH_SIZE):
        rows = order[start : start + BATCH_SIZE]
        batch = np.array([texts[i].encode() for i in rows], dtype=object)
        outputs = backend.run_signature({"text": batch})
        for row, i in enumerate(rows):
            answers[i] = (
                outputs["probability"][row],
                outputs["tokens"][row],
                outputs["truncated"][row],
            )
    return Predictions(
        probabilities=np.stack([answer[0] for answer in answers]),
        tokens=np.array([answer[1] for answer in answers]),
        truncated=np.array([answer[2] for answer in answers]),
    )


def evaluate(
    backend: Backend, examples: Sequence[Example], labels: Sequence[str], output: Path
) -> Metrics:
    """Measures a backend and writes `metrics.json`, `mistakes.csv` and the pictures to `output`.

    Args:
        backend: answers `serving_default`.
        examples: labelled texts.
        labels: names of the classes.
        output: folder to write to; made if missing.
    """
    output.mkdir(parents=True, exist_ok=True)
    predictions = predict(backend, [example.text for example in examples])
    truth = np.array([example.class_id for example in examples])
    metrics = compute_metrics(truth, predictions.probabilities)
    report = {**metrics.as_dict(), "truncated": int(predictions.truncated.sum())}
    (output / "metrics.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _draw(truth, predictions.probabilities, labels, metrics.ece, output)
    _write_mistakes(examples, predictions.probabilities, labels, output / "mistakes.csv")
    return metrics


def _draw(
    truth: np.ndarray, probabilities: np.ndarray, labels: Sequence[str], ece: float, output: Path
) -> None:
    predicted = probabilities.argmax(axis=1)
    matrix = confusion_matrix(truth, predicted, len(labels))
    plots.plot_confusion_matrix(matrix, labels, output / "confusion_matrix.png")
    # Two classes: curves of the second one. More: correct against wrong by confidence.
    two = len(labels) == 2
    positive = truth == 1 if two else truth == predicted
    scores = probabilities[:, 1] if two else probabilities.max(axis=1)
    plots.plot_roc(positive, scores, output / "roc.png")
    plots.plot_precision_recall(positive, scores, output / "precision_recall.png")
    curve = calibration_curve(truth, probabilities)
    plots.plot_calibration(
        curve.confidence, curve.accuracy, curve.count, ece, output / "calibration.png"
    )


def _write_mistakes(
    examples: Sequence[Example], probabilities: np.ndarray, labels: Sequence[str], path: Path
) -> None:
    """Writes the wrongly labelled texts, the most confident mistakes first."""
    predicted = probabilities.argmax(axis=1)
    wrong = [i for i, e in enumerate(examples) if predicted[i] != e.class_id]
    wrong.sort(key=lambda i: -probabilities[i].max())
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["confidence", "predicted", "label", "text"])
        for i in wrong:
            confidence = f"{probabilities[i].max():.4f}"
            label = labels[examples[i].class_id]
            writer.writerow([confidence, labels[predicted[i]], label, examples[i].text])
