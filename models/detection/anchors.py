"""Anchors: the box sizes that a head with anchors starts from, found by k-means.

    python -m models.detection.anchors [--preset base] [--data DIR] [--per-level 3]

prints them, smallest first, as `--network.anchors` takes them, and how well they fit.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.common.data_dir import data_dir
from models.common.splits import TRAIN
from models.detection.config import PRESETS, SHARED_DATASETS, STRIDES, DetectionConfig
from models.detection.data import LabelledImage, load_source
from models.detection.letterbox import Letterbox

ROUNDS = 300
STARTS = 10


def size_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns IoU, float [N, K], of sizes [N, 2] and [K, 2] laid on one corner."""
    shared = np.minimum(a[:, None], b[None]).prod(axis=2)
    return np.asarray(shared / (a.prod(axis=1)[:, None] + b.prod(axis=1)[None] - shared))


def find_anchors(sizes: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Clusters box sizes by k-means with the distance 1 - IoU.

    Args:
        sizes: float [N, 2], width and height.
        count: number of clusters K.
        seed: of the first centres, drawn among the sizes; the best of STARTS draws is taken.

    Returns:
        float [K, 2], the medians of the clusters, by area.

    Raises:
        ValueError: if there are fewer different sizes than clusters.

    Source: Redmon and Farhadi 2017, "YOLO9000", section 2, "Dimension Clusters".
    """
    different = np.unique(sizes, axis=0)
    if len(different) < count:
        raise ValueError(f"{count} anchors need as many different box sizes, got {len(different)}")
    random = np.random.default_rng(seed)
    starts = [different[random.choice(len(different), count, False)] for _ in range(STARTS)]
    found = [_cluster(sizes, centers) for centers in starts]
    centers = max(found, key=lambda anchors: mean_best_iou(sizes, anchors))
    return centers[np.argsort(centers.prod(axis=1), kind="stable")]


def _cluster(sizes: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Moves centres [K, 2] to the medians of the sizes nearest to them until nothing changes."""
    nearest = np.full(len(sizes), -1)
    for _ in range(ROUNDS):
        found = (1 - size_iou(sizes, centers)).argmin(axis=1)
        if (found == nearest).all():
            break
        nearest = found
        # A cluster that lost all its boxes stays where it was.
        centers = np.stack(
            [
                np.median(sizes[nearest == k], axis=0) if (nearest == k).any() else center
                for k, center in enumerate(centers)
            ]
        )
    return centers


def mean_best_iou(sizes: np.ndarray, anchors: np.ndarray) -> float:
    """Returns how well anchors [K, 2] fit sizes [N, 2]: the mean IoU with the best of them."""
    return float(size_iou(sizes, anchors).max(axis=1).mean())


def network_sizes(images: Sequence[LabelledImage], config: DetectionConfig) -> np.ndarray:
    """Returns width and height of all boxes in pixels of the network's image, float [N, 2]."""
    scaled = [
        image.boxes_xyxy
        * Letterbox.of(image.height, image.width, config.height, config.width).scales
        for image in images
    ]
    boxes = np.concatenate(scaled)
    return boxes[:, 2:] - boxes[:, :2]


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the anchors of a data folder's training boxes."""
    parser = argparse.ArgumentParser(prog="python -m models.detection.anchors")
    parser.add_argument("--preset", default="base", choices=SHARED_DATASETS)
    parser.add_argument("--data", type=Path, help="data folder (default: the preset's)")
    parser.add_argument("--per-level", type=int, default=3, help="anchors of each stride")
    arguments = parser.parse_args(argv)
    config = PRESETS[arguments.preset]
    folder = arguments.data or data_dir() / SHARED_DATASETS[arguments.preset]
    source = load_source(folder, config.labels, config.training.dev_fraction)
    sizes = network_sizes(source.splits[TRAIN], config)
    anchors = find_anchors(sizes, arguments.per_level * len(STRIDES))
    print(" ".join(f"{side:.1f}" for side in anchors.ravel()))
    print(f"mean IoU with the best anchor: {mean_best_iou(sizes, anchors):.3f}")


if __name__ == "__main__":
    main()
