"""Pictures of training and evaluation, drawn with Matplotlib's file-only backend."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes


def _save(axes: Axes, path: Path) -> None:
    figure = axes.get_figure(root=True)
    if figure is not None:
        figure.savefig(path, dpi=120, bbox_inches="tight")
        plt.close(figure)


def _axes(title: str, x_label: str, y_label: str) -> Axes:
    _, axes = plt.subplots(figsize=(6, 4.5))
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    axes.grid(alpha=0.3)
    return axes


def plot_learning_curves(log: Path, path: Path) -> None:
    """Draws losses (left) and scores (right) by epoch from a CSV log with a column `epoch`."""
    with log.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    epochs = [int(row["epoch"]) + 1 for row in rows]
    names = [name for name in rows[0] if name not in ("epoch", "learning_rate")]
    figure, sides = plt.subplots(1, 2, figsize=(11, 4.5))
    for name in names:
        axes = sides[0] if "loss" in name else sides[1]
        axes.plot(epochs, [float(row[name]) for row in rows], marker="o", markersize=3, label=name)
    for axes, label in zip(sides, ("loss", "score"), strict=True):
        axes.set(xlabel="epoch", ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)


def plot_roc(truth: np.ndarray, scores: np.ndarray, path: Path) -> None:
    """Draws the ROC curve.

    Args:
        truth: bool [N].
        scores: float [N], higher speaks for True.
        path: picture to write.
    """
    true_positives, false_positives = _counts_by_threshold(truth, scores)
    axes = _axes("ROC curve", "false positive rate", "true positive rate")
    axes.plot(
        false_positives / max(1, false_positives[-1]), true_positives / max(1, true_positives[-1])
    )
    axes.plot([0, 1], [0, 1], linestyle="--", color="grey", label="chance")
    axes.legend()
    _save(axes, path)


def plot_precision_recall(truth: np.ndarray, scores: np.ndarray, path: Path) -> None:
    """Draws precision against recall; arguments as in `plot_roc`."""
    true_positives, false_positives = _counts_by_threshold(truth, scores)
    found = np.maximum(1, true_positives + false_positives)
    axes = _axes("Precision and recall", "recall", "precision")
    axes.plot((true_positives / max(1, true_positives[-1]))[1:], (true_positives / found)[1:])
    axes.set_ylim(0, 1.02)
    _save(axes, path)


def _counts_by_threshold(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts true and false positives as the threshold falls past each distinct score."""
    order = np.argsort(-scores, kind="stable")
    sorted_truth, sorted_scores = truth[order], scores[order]
    last_of_tie = np.append(np.diff(sorted_scores) != 0, True)
    true_positives = np.cumsum(sorted_truth)[last_of_tie]
    false_positives = np.cumsum(~sorted_truth)[last_of_tie]
    return np.append(0, true_positives), np.append(0, false_positives)


def plot_confusion_matrix(matrix: np.ndarray, labels: Sequence[str], path: Path) -> None:
    """Draws counts [true, predicted] with each row's shares as colour."""
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    axes = _axes("Confusion matrix", "predicted", "true")
    axes.grid(visible=False)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(labels))
    axes.set_xticks(ticks, labels)
    axes.set_yticks(ticks, labels, rotation=90, va="center")
    for row in ticks:
        for column in ticks:
            share = shares[row, column]
            axes.text(
                column,
                row,
                f"{matrix[row, column]}\n{share:.1%}",
                ha="center",
                va="center",
                color="white" if share > 0.5 else "black",
            )
    _save(axes, path)


def plot_calibration(
    confidence: np.ndarray, accuracy: np.ndarray, count: np.ndarray, ece: float, path: Path
) -> None:
    """Draws a reliability diagram: accuracy over confidence, with the share of texts as bars."""
    axes = _axes(f"Calibration (ECE {ece:.3f})", "confidence", "accuracy")
    axes.plot([0, 1], [0, 1], linestyle="--", color="grey", label="perfect")
    axes.bar(confidence, count / count.sum(), width=0.03, alpha=0.3, label="share of texts")
    axes.plot(confidence, accuracy, marker="o", label="model")
    axes.set(xlim=(min(0.5, float(confidence.min())) - 0.03, 1.03), ylim=(0, 1.03))
    axes.legend()
    _save(axes, path)


def plot_histogram(values: Mapping[str, np.ndarray], x_label: str, path: Path) -> None:
    """Draws one histogram for each named group of values."""
    axes = _axes(f"Distribution of {x_label}", x_label, "count")
    for name, numbers in values.items():
        axes.hist(numbers, bins=40, alpha=0.6, label=name)
    axes.legend()
    _save(axes, path)
