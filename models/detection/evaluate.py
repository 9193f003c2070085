"""Evaluation of a detector: metrics.json, pictures, and the images it got most wrong."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from models.common.backends import Backend
from models.common.images import read_image
from models.common.plots import plot_confusion_matrix
from models.common.splits import DEV, TRAIN, choose_split
from models.detection import pictures
from models.detection.config import DetectionConfig
from models.detection.data import LabelledImage, load_source, read_served_bytes
from models.detection.metrics import (
    SCORING_THRESHOLD,
    Metrics,
    Truth,
    compute_metrics,
    confusion_matrix,
    curve,
    image_errors,
    match_class,
    operating_points,
)
from models.detection.nms import Detections

BATCH_SIZE = 8
SHOWN = 12


@dataclass(frozen=True)
class Report:
    """What an evaluation found, as the JSON line tells it.

    Attributes:
        split: which images were measured.
        metrics: average precisions.
        score_threshold: the model's own, at which the next three hold.
        precision: share of the detections that are right, by class name.
        recall: share of the labelled boxes that were found, by class name.
        f1: their harmonic mean, by class name.
    """

    split: str
    metrics: Metrics
    score_threshold: float
    precision: dict[str, float]
    recall: dict[str, float]
    f1: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Returns all figures in one level, as `Metrics.as_dict` does."""
        others = {name: value for name, value in asdict(self).items() if name != "metrics"}
        return {**self.metrics.as_dict(), **others}


def load_images_to_evaluate(
    folder: Path, labels: Sequence[str], split: str | None, dev_fraction: float
) -> tuple[str, list[LabelledImage]]:
    """Reads the split that `choose_split` picks.

    In a folder that names no splits, the default is everything, and dev is the part that training
    holds out.

    Raises:
        DataError: as `load_source` and `choose_split` do.
    """
    source = load_source(folder, labels, dev_fraction)
    available = set(source.named)
    if TRAIN in source.named or (split is not None and not source.named):
        available |= {TRAIN, DEV}  # dev is held out where it is not named
    name = choose_split(split, available, str(folder))
    return name, source.splits[name]


def predict(backend: Backend, files: Iterable[bytes], score_threshold: float) -> list[Detections]:
    """Asks a backend for all image files, in batches; the order is kept."""
    found: list[Detections] = []
    remaining = iter(files)
    while batch := list(islice(remaining, BATCH_SIZE)):
        outputs = backend.run_signature(
            {
                "image_bytes": np.array(batch, dtype=object),
                "score_threshold": np.array(score_threshold, np.float32),
            }
        )
        found += unpack(outputs)
    return found


def unpack(outputs: Mapping[str, np.ndarray]) -> list[Detections]:
    """Returns the detections of each image without the padding."""
    return [
        Detections(
            outputs["boxes_xyxy"][row, :count],
            outputs["scores"][row, :count],
            outputs["class_ids"][row, :count],
        )
        for row, count in enumerate(outputs["num_detections"])
    ]


def evaluate(
    backend: Backend,
    images: Sequence[LabelledImage],
    config: DetectionConfig,
    output: Path,
    split: str = "all",
) -> Report:
    """Measures a backend and writes `metrics.json` and the pictures to `output`.

    Args:
        backend: answers `serving_default`.
        images: labelled images.
        config: of the model: labels and thresholds.
        output: folder to write to; made if missing.
        split: name of the images, for the report.
    """
    output.mkdir(parents=True, exist_ok=True)
    truths = [image.truth for image in images]
    files = (read_served_bytes(image.path) for image in images)
    found = predict(backend, files, SCORING_THRESHOLD)
    points = operating_points(truths, found, len(config.labels), config.score_threshold)
    by_class = dict(zip(config.labels, points, strict=True))
    report = Report(
        split=split,
        metrics=compute_metrics(truths, found, config.labels),
        score_threshold=config.score_threshold,
        precision={name: point.precision for name, point in by_class.items()},
        recall={name: point.recall for name, point in by_class.items()},
        f1={name: point.f1 for name, point in by_class.items()},
    )
    text = json.dumps(report.as_dict(), indent=2)
    (output / "metrics.json").write_text(text + "\n", encoding="utf-8")
    _draw_curves(truths, found, config, output)
    _draw_images(images, truths, found, config, output)
    return report


def _draw_curves(
    truths: Sequence[Truth], found: Sequence[Detections], config: DetectionConfig, output: Path
) -> None:
    labels = config.labels
    curves = {
        name: curve(match_class(truths, found, class_id)) for class_id, name in enumerate(labels)
    }
    pictures.plot_precision_recall(curves, output / "precision_recall.png")
    pictures.plot_f1(curves, config.score_threshold, output / "f1.png")
    shown = [detections.above(config.score_threshold) for detections in found]
    matrix = confusion_matrix(truths, shown, len(labels))
    plot_confusion_matrix(matrix, [*labels, "background"], output / "confusion_matrix.png")


def _draw_images(
    images: Sequence[LabelledImage],
    truths: Sequence[Truth],
    found: Sequence[Detections],
    config: DetectionConfig,
    output: Path,
) -> None:
    """Draws the first images, and those with the most errors, as labelled and as predicted."""
    shown = [detections.above(config.score_threshold) for detections in found]
    errors = [image_errors(truth, part) for truth, part in zip(truths, shown, strict=True)]
    worst = np.argsort([-count for count in errors], kind="stable")
    selections = {"predictions.png": list(range(len(images))), "worst_misses.png": worst.tolist()}
    for name, order in selections.items():
        chosen = order[:SHOWN]
        pictures.draw_comparison(
            [read_image(images[i].path) for i in chosen],
            [truths[i] for i in chosen],
            [shown[i] for i in chosen],
            config.labels,
            output / name,
        )
