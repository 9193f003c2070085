"""Evaluation of the segmentation model: metrics.json, metrics of each image, and pictures."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from models.common import plots
from models.common.backends import Backend
from models.common.splits import ALL, DataError, choose_split
from models.segmentation import pictures
from models.segmentation.config import SegmentationConfig
from models.segmentation.data import Example, load_source
from models.segmentation.metrics import BoundaryScores, Metrics, Scores
from protocol.images import encode_png

BATCH_SIZE = 8
PICTURED_IMAGES = 6
# What the signature decodes; anything else is sent as a PNG of its pixels.
SERVED_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Report:
    """What `evaluate` prints.

    Attributes:
        metrics: see `Metrics`.
        boundary_f1: of class 1 if there are two classes, else the mean; see `BoundaryScores`.
        boundary_f1_by_class: of each class.
    """

    metrics: Metrics
    boundary_f1: float
    boundary_f1_by_class: dict[str, float]

    def as_dict(self) -> dict[str, object]:
        """Returns everything by name, in one level besides the classes."""
        return {
            **self.metrics.as_dict(),
            "boundary_f1": self.boundary_f1,
            "boundary_f1_by_class": self.boundary_f1_by_class,
        }


def load_examples_to_evaluate(
    folder: Path, config: SegmentationConfig, split: str | None
) -> tuple[str, list[Example]]:
    """Reads the split that `choose_split` picks.

    In a folder without split folders everything is evaluated, unless `dev` (the part that
    training holds out by hash) or `train` (the rest) is asked for.

    Raises:
        DataError: as `load_source` and `choose_split` do, and if the split is empty.
    """
    source = load_source(folder, config.labels, config.void_value, config.training.dev_fraction)
    stated = source.stated_splits if split is None else list(source.splits)
    name = choose_split(split, stated, str(folder))
    parts = source.splits.values() if name == ALL else [source.splits[name]]
    examples = sorted((e for part in parts for e in part), key=lambda example: example.name)
    if not examples:
        raise DataError(f"{folder}: the {name} split holds no images")
    return name, examples


def image_bytes(example: Example) -> bytes:
    """Returns the file that a client would send."""
    if example.path is not None and example.path.suffix.lower() in SERVED_SUFFIXES:
        return example.path.read_bytes()
    return encode_png(example.image)


def predict(backend: Backend, examples: Sequence[Example]) -> list[np.ndarray]:
    """Asks a backend for the masks of all images.

    Returns:
        uint8 [H, W] for each, in the order given.

    Raises:
        DataError: if a mask comes back in another size than its image has.
    """
    masks = []
    for start in range(0, len(examples), BATCH_SIZE):
        batch = examples[start : start + BATCH_SIZE]
        files = np.array([image_bytes(example) for example in batch], dtype=object)
        outputs = backend.run_signature({"image_bytes": files})
        masks += [np.asarray(Image.open(io.BytesIO(png))) for png in outputs["mask_png"]]
    for example, mask in zip(examples, masks, strict=True):
        if mask.shape != example.mask.shape:
            raise DataError(
                f"{example.path or example.name}: the answer is a mask of shape "
                f"{list(mask.shape)}, the image has {list(example.mask.shape)}"
            )
    return masks


def evaluate(
    backend: Backend, examples: Sequence[Example], labels: Sequence[str], output: Path
) -> Report:
    """Measures a backend and writes `metrics.json`, `images.csv` and the pictures to `output`.

    Args:
        backend: answers `serving_default`.
        examples: labelled images.
        labels: names of the classes.
        output: folder to write to; made if missing.
    """
    output.mkdir(parents=True, exist_ok=True)
    masks = predict(backend, examples)
    scores, boundaries = Scores(labels), BoundaryScores(len(labels))
    for example, mask in zip(examples, masks, strict=True):
        scores.add(example.mask, mask)
        boundaries.add(example.mask, mask)
    by_class = zip(labels, boundaries.by_class().tolist(), strict=True)
    report = Report(
        scores.metrics(),
        boundaries.f1(),
        {label: value for label, value in by_class if np.isfinite(value)},
    )
    text = json.dumps(report.as_dict(), indent=2)
    (output / "metrics.json").write_text(text + "\n", encoding="utf-8")
    _write_images(examples, scores, output / "images.csv")
    _draw(examples, masks, scores, report, output)
    return report


def _write_images(examples: Sequence[Example], scores: Scores, path: Path) -> None:
    """Writes the scores of each image, the worst first."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "mean_iou", "dice"])
        for i in np.argsort(scores.iou_of_images):
            iou, dice = scores.iou_of_images[i], scores.dice_of_images[i]
            writer.writerow([examples[i].name, f"{iou:.4f}", f"{dice:.4f}"])


def _draw(
    examples: Sequence[Example],
    masks: Sequence[np.ndarray],
    scores: Scores,
    report: Report,
    output: Path,
) -> None:
    labels = scores.labels
    pictures.draw_confusion_matrix(scores.confusion, labels, output / "confusion_matrix.png")
    by_class = {
        "IoU": report.metrics.iou,
        "dice": report.metrics.dice_by_class,
        "boundary F1": report.boundary_f1_by_class,
    }
    pictures.draw_class_bars(by_class, labels, output / "classes.png")
    spread = {
        "mean IoU": np.array(scores.iou_of_images),
        "dice": np.array(scores.dice_of_images),
    }
    plots.plot_histogram(spread, "score of an image", output / "images.png")
    order = np.argsort(scores.iou_of_images)
    evenly = np.linspace(0, len(examples) - 1, min(PICTURED_IMAGES, len(examples))).astype(int)
    for name, chosen in (("predictions", evenly), ("worst", order[:PICTURED_IMAGES])):
        pictures.draw_panels(
            [examples[i] for i in chosen],
            [masks[i] for i in chosen],
            labels,
            output / f"{name}.png",
            [f"mean IoU {scores.iou_of_images[i]:.3f}" for i in chosen],
        )
