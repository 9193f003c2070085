"""Pictures of masks: overlays, panels of image, truth and prediction, bars by class."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from models.segmentation.config import VOID
from models.segmentation.data import Example

OPACITY = 0.45
COLUMNS = 4
VOID_COLOUR = (0.0, 0.0, 0.0)
ERROR_COLOUR = (0.85, 0.0, 0.5)


def class_colours(classes: int) -> np.ndarray:
    """Returns one colour a class, float [classes, 3] in 0..1; two classes: red for class 1."""
    if classes == 2:
        return np.array([[0.15, 0.15, 0.15], [0.95, 0.2, 0.2]])
    palette = matplotlib.colormaps["tab20"].colors  # type: ignore[attr-defined]
    return np.array([palette[(2 * c + c // 10) % 20] for c in range(classes)])


def paint(mask: np.ndarray, classes: int) -> np.ndarray:
    """Colours a mask uint8 [H, W] by class: float [H, W, 3]; void is black."""
    table = np.tile(np.array(VOID_COLOUR), (256, 1))
    table[:classes] = class_colours(classes)
    return table[mask]


def overlay(image: np.ndarray, mask: np.ndarray, classes: int) -> np.ndarray:
    """Lays the classes' colours over an image, except background and void.

    Args:
        image: uint8 [H, W, 3].
        mask: uint8 [H, W].
        classes: number of classes; with two, class 0 is the background and stays clear.

    Returns:
        float [H, W, 3] in 0..1.
    """
    clear = (mask == VOID) | ((mask == 0) & (classes == 2))
    opacity = np.where(clear, 0.0, OPACITY)[..., None]
    return (1 - opacity) * image / 255 + opacity * paint(mask, classes)


def draw_training_batch(
    images: np.ndarray, masks: np.ndarray, labels: Sequence[str], path: Path
) -> None:
    """Draws training crops with their labels, so that a wrong label can be seen.

    Args:
        images: uint8 [B, S, S, 3].
        masks: int [B, S, S].
        labels: names of the classes.
        path: picture to write.
    """
    rows = -(-len(images) // COLUMNS)
    figure, axes = _grid(rows, COLUMNS, 2.4)
    for place, image, mask in zip(axes.ravel(), images, masks, strict=False):
        place.imshow(overlay(image, mask.astype(np.uint8), len(labels)))
    _save(figure, labels, path)


def draw_panels(
    examples: Sequence[Example],
    masks: Sequence[np.ndarray],
    labels: Sequence[str],
    path: Path,
    captions: Sequence[str] = (),
) -> None:
    """Draws image, truth, prediction and errors side by side, one row an image.

    Args:
        examples: what was asked.
        masks: what was answered, uint8 [H, W] each.
        labels: names of the classes.
        path: picture to write.
        captions: what to say of each image besides its name, or nothing.
    """
    figure, axes = _grid(len(examples), 4, 2.6)
    for place, title in zip(axes[0], ("image", "truth", "prediction", "errors"), strict=True):
        place.set_title(title, fontsize=9)
    texts = captions or [""] * len(examples)
    for row, example, mask, caption in zip(axes, examples, masks, texts, strict=True):
        row[0].imshow(example.image)
        row[1].imshow(overlay(example.image, example.mask, len(labels)))
        row[2].imshow(overlay(example.image, mask, len(labels)))
        row[3].imshow(errors(example.image, example.mask, mask))
        row[0].set_ylabel(f"{example.name[:24]}\n{caption}", fontsize=7)
    _save(figure, labels, path)


def errors(image: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Marks the wrong pixels on a pale grey image; void counts as right.

    Args:
        image: uint8 [H, W, 3].
        truth: uint8 [H, W], class ids or VOID.
        predicted: uint8 [H, W].

    Returns:
        float [H, W, 3] in 0..1.
    """
    grey = image.mean(axis=2, keepdims=True) / 255
    pale = np.repeat(0.4 + 0.6 * grey, 3, axis=2)
    pale[(truth != predicted) & (truth != VOID)] = ERROR_COLOUR
    return pale


def draw_confusion_matrix(confusion: np.ndarray, labels: Sequence[str], path: Path) -> None:
    """Draws each true class's pixels by predicted class, in percent of the row.

    Args:
        confusion: pixels [true, predicted].
        labels: names of the classes.
        path: picture to write.
    """
    shares = confusion / np.maximum(1, confusion.sum(axis=1, keepdims=True))
    side = max(4.0, 0.6 * len(labels))
    figure, axes = plt.subplots(figsize=(side + 1, side), layout="constrained")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(labels))
    axes.set(title="Pixels of each true class, %", xlabel="predicted", ylabel="true")
    axes.set_xticks(ticks, labels, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(ticks, labels, fontsize=8)
    for row, column in np.ndindex(*shares.shape):
        share = shares[row, column]
        colour = "white" if share > 0.5 else "black"
        text = f"{100 * share:.1f}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_class_bars(
    values: Mapping[str, Mapping[str, float]], labels: Sequence[str], path: Path
) -> None:
    """Draws one group of bars a class.

    Args:
        values: name of a metric -> class -> its value in 0..1; classes may be missing.
        labels: names of the classes.
        path: picture to write.
    """
    figure, axes = plt.subplots(figsize=(max(5.0, 0.9 * len(labels)), 4), layout="constrained")
    width = 0.8 / len(values)
    places = np.arange(len(labels))
    for number, (name, by_class) in enumerate(values.items()):
        heights = [by_class.get(label, 0.0) for label in labels]
        bars = axes.bar(places + number * width, heights, width, label=name)
        axes.bar_label(bars, fmt="%.2f", fontsize=6)
    axes.set_xticks(places + width * (len(values) - 1) / 2, labels, rotation=30, ha="right")
    axes.set(title="Scores by class", ylim=(0, 1.05))
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=len(values), fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _grid(rows: int, columns: int, side: float) -> tuple[Figure, np.ndarray]:
    figure, axes = plt.subplots(
        rows, columns, figsize=(columns * side, rows * side), squeeze=False, layout="constrained"
    )
    for place in axes.ravel():
        place.set_xticks([])
        place.set_yticks([])
    return figure, axes


def _save(figure: Figure, labels: Sequence[str], path: Path) -> None:
    colours = class_colours(len(labels))
    patches = [
        Patch(color=tuple(colour), label=label)
        for colour, label in zip(colours, labels, strict=True)
    ]
    figure.legend(
        handles=patches, loc="outside lower center", ncols=min(6, len(labels)), fontsize=7
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)
