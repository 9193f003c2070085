"""Pictures of face recognition: batches, distances, the worst pairs, the space of embeddings."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from models.face.data import FaceSet

SHOWN_IDENTITIES = 10
SHOWN_PAIRS = 10


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)


def draw_batch(images: np.ndarray, images_per_identity: int, path: Path, columns: int = 12) -> None:
    """Draws the first pictures of a training batch, those of one person side by side.

    Args:
        images: uint8 [N, S, S, 3].
        images_per_identity: K; pictures come in groups of it.
        path: picture to write.
        columns: pictures in a row, at least; rounded down to whole groups.
    """
    columns = max(images_per_identity, columns - columns % images_per_identity)
    shown = images[: columns * 6]
    rows = -(-len(shown) // columns)
    size = shown.shape[1]
    canvas = np.full((rows * size, columns * size, 3), 255, np.uint8)
    for number, image in enumerate(shown):
        top, left = number // columns * size, number % columns * size
        canvas[top : top + size, left : left + size] = image
    figure, axes = plt.subplots(figsize=(columns * 0.8, rows * 0.8 + 0.3))
    axes.imshow(canvas)
    axes.set_axis_off()
    axes.set_title(f"Training batch, {images_per_identity} a person", fontsize=9)
    _save(figure, path)


def draw_distances(
    distances: np.ndarray, same: np.ndarray, thresholds: Mapping[str, float], path: Path
) -> None:
    """Draws histograms of same and different pairs, and the model's thresholds.

    Args:
        distances: squared distances, float [P].
        same: bool [P].
        thresholds: name -> squared distance.
        path: picture to write.
    """
    figure, axes = plt.subplots(figsize=(7, 4.5))
    edges = np.linspace(0, max(2.2, float(distances.max())), 60).tolist()
    for kind, color in ((True, "tab:green"), (False, "tab:red")):
        chosen = distances[same == kind]
        label = f"{'same' if kind else 'different'} person ({len(chosen)})"
        weights = np.full(len(chosen), 1 / max(1, len(chosen)))
        axes.hist(chosen, bins=edges, weights=weights, alpha=0.55, color=color, label=label)
    styles = ("-", "--", ":")
    for (name, threshold), style in zip(thresholds.items(), styles, strict=False):
        axes.axvline(threshold, color="black", linestyle=style, linewidth=1, label=name)
    axes.set(
        title="Distances of pairs", xlabel="squared distance", ylabel="share of pairs of the kind"
    )
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    _save(figure, path)


def draw_worst_pairs(
    faces: FaceSet,
    rows: np.ndarray,
    same: np.ndarray,
    distances: np.ndarray,
    threshold: float,
    path: Path,
) -> None:
    """Draws the pairs that a model judges worst.

    Args:
        faces: the faces.
        rows: pairs of them, int [P, 2].
        same: bool [P].
        distances: squared distances, float [P].
        threshold: at or below it a pair is accepted.
        path: picture to write.
    """
    farthest = np.flatnonzero(same)[np.argsort(-distances[same])]
    nearest = np.flatnonzero(~same)[np.argsort(distances[~same])]
    shown_same, shown_different = (
        [_shown(faces, rows[number], float(distances[number])) for number in numbers[:SHOWN_PAIRS]]
        for numbers in (farthest, nearest)
    )
    draw_pairs(shown_same, shown_different, threshold, path)


def _shown(faces: FaceSet, pair: np.ndarray, distance: float) -> "ShownPair":
    first, second = (faces.faces[row] for row in pair)
    return ShownPair(first.pixels(), second.pixels(), (first.name, second.name), distance)


@dataclass(frozen=True)
class ShownPair:
    """Two pictures, uint8 [H, W, 3], their names, and the squared distance between them."""

    first: np.ndarray
    second: np.ndarray
    names: tuple[str, str]
    distance: float


def draw_pairs(
    same: Sequence[ShownPair], different: Sequence[ShownPair], threshold: float, path: Path
) -> None:
    """Draws the pairs that the model judges worst.

    Args:
        same: pairs of one person, the farthest first (upper half).
        different: pairs of two persons, the nearest first (lower half).
        threshold: squared distance that separates them.
        path: picture to write.
    """
    columns = max(len(same), len(different), 1)
    figure, grid = plt.subplots(4, columns, figsize=(columns * 1.35, 6.8), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for top, pairs in ((0, same), (2, different)):
        for column, pair in enumerate(pairs):
            for row, image in enumerate((pair.first, pair.second)):
                axes = grid[top + row, column]
                axes.imshow(image)
                name = pair.names[row].split("/")[-1]
                axes.set_title(name if len(name) < 21 else f"{name[:19]}…", fontsize=5, pad=2)
            grid[top, column].text(
                0.02, 0.04, f"{pair.distance:.2f}", transform=grid[top, column].transAxes,
                fontsize=7, color="white", bbox={"facecolor": "black", "pad": 1.5},
            )  # fmt: skip
    figure.suptitle(
        f"Worst pairs (threshold {threshold:.2f}): above, one person judged far; "
        "below, two persons judged near",
        fontsize=8,
        y=0.94,
    )
    _save(figure, path)


def draw_embeddings(embeddings: np.ndarray, names: Sequence[str], path: Path) -> None:
    """Draws the first two principal components of the identities with most pictures.

    Args:
        embeddings: float [N, D].
        names: who each is, [N].
        path: picture to write.
    """
    most = [name for name, _ in Counter(names).most_common(SHOWN_IDENTITIES)]
    chosen = np.array([name in most for name in names])
    points = principal_components(embeddings[chosen], 2)
    shown = np.array(names)[chosen]
    figure, axes = plt.subplots(figsize=(7, 5.5))
    for number, name in enumerate(most):
        own = shown == name
        axes.scatter(
            points[own, 0],
            points[own, 1],
            s=22,
            color=plt.get_cmap("tab10")(number),
            label=f"{name.replace('_', ' ')} ({own.sum()})",
        )
    axes.set(title="Embeddings, first two principal components", xlabel="first", ylabel="second")
    axes.legend(fontsize=6, bbox_to_anchor=(1.01, 1), loc="upper left")
    axes.grid(alpha=0.3)
    _save(figure, path)


def principal_components(vectors: np.ndarray, count: int) -> np.ndarray:
    """Projects float [N, D] on its first principal components: float [N, count]."""
    centred = vectors - vectors.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    projected = np.zeros((len(vectors), count))
    usable = min(count, len(directions))
    projected[:, :usable] = centred @ directions[:usable].T
    return projected
