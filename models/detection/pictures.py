"""Pictures of boxes and of the curves people expect of a detector."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from PIL import Image, ImageDraw, ImageFont

from models.detection.metrics import Curve, Truth, f1_scores
from models.detection.nms import Detections

TILE = 320
COLUMNS = 4
COLOURS = ("#e6194b", "#4363d8", "#3cb44b", "#f58231", "#911eb4", "#008080", "#9a6324", "#808000")


def draw_boxes(image_u8: np.ndarray, detections: Detections, labels: Sequence[str]) -> Image.Image:
    """Draws boxes with class names, and scores below 1, on a copy scaled to at most TILE pixels.

    Args:
        image_u8: [H, W, 3].
        detections: boxes in pixels of the image.
        labels: names of the classes.
    """
    scale = TILE / max(image_u8.shape[:2])
    size = [max(1, round(side * scale)) for side in image_u8.shape[1::-1]]
    image = Image.fromarray(np.ascontiguousarray(image_u8)).resize(size)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(10)
    rows = zip(detections.boxes_xyxy, detections.scores, detections.class_ids, strict=True)
    for box, score, class_id in rows:
        colour = COLOURS[class_id % len(COLOURS)]
        corners = [float(value) * scale for value in box]
        draw.rectangle(corners, outline=colour, width=2)
        text = labels[class_id] if score >= 1 else f"{labels[class_id]} {score:.2f}"
        draw.text((corners[0] + 3, corners[1] + 1), text, fill=colour, font=font)
    return image


def draw_batch(
    images: Sequence[np.ndarray],
    detections: Sequence[Detections],
    labels: Sequence[str],
    path: Path,
) -> None:
    """Draws images with their boxes side by side; arguments as in `draw_boxes`, one an image."""
    tiles = [draw_boxes(i, d, labels) for i, d in zip(images, detections, strict=True)]
    save_tiles(tiles, path)


def save_tiles(tiles: Sequence[Image.Image], path: Path) -> None:
    """Writes pictures of at most TILE pixels a side, COLUMNS in a row, rows as high as needed."""
    rows = [tiles[start : start + COLUMNS] for start in range(0, len(tiles), COLUMNS)]
    heights = [max(tile.height for tile in row) for row in rows]
    sheet = Image.new("RGB", (COLUMNS * TILE, sum(heights)), "white")
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            sheet.paste(tile, (column * TILE, top))
        top += height
    sheet.save(path)


def draw_comparison(
    images: Sequence[np.ndarray],
    truths: Sequence[Truth],
    detections: Sequence[Detections],
    labels: Sequence[str],
    path: Path,
) -> None:
    """Draws each image twice side by side: as labelled (left), as predicted (right)."""
    tiles = []
    for image, truth, found in zip(images, truths, detections, strict=True):
        tiles += [draw_boxes(image, as_detections(truth), labels), draw_boxes(image, found, labels)]
    save_tiles(tiles, path)


def as_detections(truth: Truth) -> Detections:
    """Returns labelled boxes as detections of score 1."""
    return Detections(truth.boxes_xyxy, np.ones(len(truth.class_ids)), truth.class_ids)


def plot_precision_recall(curves: Mapping[str, Curve], path: Path) -> None:
    """Draws precision over recall at IoU 0.5 for each class."""
    axes = _axes("Precision and recall at IoU 0.5", "recall", "precision")
    for name, points in curves.items():
        axes.plot(points.recall, points.precision, label=name)
    _save(axes, path)


def plot_f1(curves: Mapping[str, Curve], score_threshold: float, path: Path) -> None:
    """Draws F1 over the score threshold for each class, and marks the model's threshold."""
    axes = _axes("F1 at IoU 0.5", "score threshold", "F1")
    for name, points in curves.items():
        axes.plot(points.scores, f1_scores(points), label=name)
    axes.axvline(score_threshold, linestyle="--", color="grey", label="default")
    _save(axes, path)


def _axes(title: str, x_label: str, y_label: str) -> Axes:
    _, axes = plt.subplots(figsize=(6, 4.5))
    axes.set(title=title, xlabel=x_label, ylabel=y_label, xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    return axes


def _save(axes: Axes, path: Path) -> None:
    axes.legend()
    figure = axes.get_figure(root=True)
    if figure is not None:
        figure.savefig(path, dpi=120, bbox_inches="tight")
        plt.close(figure)
