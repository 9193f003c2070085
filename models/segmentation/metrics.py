"""Metrics of masks, as pure functions of class ids; void pixels count nowhere."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from models.segmentation.config import VOID

# Boundaries may be this share of the image's diagonal apart (Csurka et al. 2013, section 4).
BOUNDARY_TOLERANCE = 0.0075


@dataclass(frozen=True)
class Metrics:
    """What is measured over a set; "pooled" means from one confusion matrix of all its pixels.

    Attributes:
        dice: pooled 2 TP / (2 TP + FP + FN): of class 1 if there are two classes, else the mean
            over the classes.
        mean_iou: pooled TP / (TP + FP + FN), mean over the classes, the background among them.
        pixel_accuracy: share of pixels with the right class.
        mean_class_accuracy: mean over the classes of the share of their pixels that were found.
        dice_per_image: `dice` of each image by itself, averaged over the images.
        mean_iou_per_image: `mean_iou` of each image by itself, averaged over the images.
        iou: pooled, by class.
        dice_by_class: pooled, by class.
        n: number of images.

    A class that neither truth nor prediction holds is left out of means; an image of two classes
    without class 1 in either has dice 1.
    """

    dice: float
    mean_iou: float
    pixel_accuracy: float
    mean_class_accuracy: float
    dice_per_image: float
    mean_iou_per_image: float
    iou: dict[str, float]
    dice_by_class: dict[str, float]
    n: int

    def as_dict(self) -> dict[str, object]:
        """Returns the metrics by name."""
        return asdict(self)


@dataclass
class Scores:
    """Collects the masks of a set, one image at a time.

    Attributes:
        labels: names of the classes.
        confusion: pixels by [true class, predicted class], int64 [C, C].
        dice_of_images: dice of each image so far.
        iou_of_images: mean IoU of each image so far.
    """

    labels: Sequence[str]
    confusion: np.ndarray = field(init=False)
    dice_of_images: list[float] = field(default_factory=list)
    iou_of_images: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.confusion = np.zeros((len(self.labels), len(self.labels)), np.int64)

    def add(self, truth: np.ndarray, predicted: np.ndarray) -> None:
        """Counts one image; see `confusion_matrix` for the arguments."""
        matrix = confusion_matrix(truth, predicted, len(self.labels))
        self.confusion += matrix
        self.dice_of_images.append(dice_of(matrix))
        self.iou_of_images.append(_mean(iou_by_class(matrix)))

    def metrics(self) -> Metrics:
        """Computes everything from what was counted."""
        matrix = self.confusion
        found = np.diag(matrix) / np.maximum(1, matrix.sum(axis=1))
        return Metrics(
            dice=dice_of(matrix),
            mean_iou=_mean(iou_by_class(matrix)),
            pixel_accuracy=float(np.trace(matrix) / max(1, matrix.sum())),
            mean_class_accuracy=_mean(np.where(matrix.sum(axis=1) > 0, found, np.nan)),
            dice_per_image=_mean(np.array(self.dice_of_images)),
            mean_iou_per_image=_mean(np.array(self.iou_of_images)),
            iou=self._by_label(iou_by_class(matrix)),
            dice_by_class=self._by_label(dice_by_class(matrix)),
            n=len(self.dice_of_images),
        )

    def _by_label(self, values: np.ndarray) -> dict[str, float]:
        return {
            label: float(value)
            for label, value in zip(self.labels, values, strict=True)
            if np.isfinite(value)
        }


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts pixels by [true class, predicted class], those without a true class left out.

    Args:
        truth: uint8 of any shape, class ids or VOID.
        predicted: uint8 of the same shape, class ids.
        classes: their number.

    Returns:
        int64 [classes, classes].
    """
    known = truth != VOID
    flat = truth[known].astype(np.int64) * classes + predicted[known]
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def iou_by_class(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union of each class, float [C]; NaN where neither side has the class.

    Source: Everingham et al. 2010, "The PASCAL Visual Object Classes Challenge", equation 3.
    """
    hits = np.diag(confusion)
    return _ratio(hits, confusion.sum(axis=0) + confusion.sum(axis=1) - hits)


def dice_by_class(confusion: np.ndarray) -> np.ndarray:
    """Dice coefficient (F1 of the pixels) of each class, float [C]; NaN as `iou_by_class`."""
    return _ratio(2 * np.diag(confusion), confusion.sum(axis=0) + confusion.sum(axis=1))


def dice_of(confusion: np.ndarray) -> float:
    """The dice of `Metrics.dice`: of class 1 if there are two classes, else the mean."""
    values = dice_by_class(confusion)
    if len(values) != 2:
        return _mean(values)
    return 1.0 if np.isnan(values[1]) else float(values[1])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


class BoundaryScores:
    """Collects how well the boundaries of each class are met, over a set of images.

    Precision of a class is the share of predicted boundary pixels that lie within the tolerance
    of a true one, recall the share of true ones that lie within it of a predicted one; both are
    pooled over the images, F1 is their harmonic mean.

    Args:
        classes: their number.
        tolerance: share of an image's diagonal, rounded to pixels and at least one.

    Source: Csurka et al. 2013, "What is a good evaluation measure for semantic segmentation?",
        section 4, pooled instead of averaged.
    """

    def __init__(self, classes: int, tolerance: float = BOUNDARY_TOLERANCE) -> None:
        self.classes = classes
        self.tolerance = tolerance
        self._counts = np.zeros((classes, 4), np.int64)  # predicted: hits, all; true: hits, all

    def add(self, truth: np.ndarray, predicted: np.ndarray) -> None:
        """Counts one image: uint8 [H, W] class ids each; VOID in truth."""
        radius = max(1, round(self.tolerance * float(np.hypot(*truth.shape))))
        predicted = np.where(truth == VOID, VOID, predicted)
        for c in range(self.classes):
            true_edge, found_edge = boundary(truth == c), boundary(predicted == c)
            near_true, near_found = dilate(true_edge, radius), dilate(found_edge, radius)
            self._counts[c] += (
                np.count_nonzero(found_edge & near_true),
                np.count_nonzero(found_edge),
                np.count_nonzero(true_edge & near_found),
                np.count_nonzero(true_edge),
            )

    def by_class(self) -> np.ndarray:
        """F1 of each class, float [C]; NaN where neither side has a boundary."""
        found_hits, found, true_hits, true = self._counts.T
        precision, recall = found_hits / np.maximum(1, found), true_hits / np.maximum(1, true)
        f1 = 2 * precision * recall / np.maximum(1e-12, precision + recall)
        return np.where(found + true > 0, f1, np.nan)

    def f1(self) -> float:
        """F1 of class 1 if there are two classes, else the mean over the classes."""
        values = self.by_class()
        return float(values[1]) if len(values) == 2 else _mean(values)


def boundary(region: np.ndarray) -> np.ndarray:
    """Marks the pixels of a region that have a neighbour (of four) outside it.

    The image's own border is no boundary.

    Args:
        region: bool [H, W].

    Returns:
        bool [H, W].
    """
    framed = np.pad(region, 1, mode="edge")
    inside = framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]
    return region & ~inside


def dilate(region: np.ndarray, radius: int) -> np.ndarray:
    """Marks the pixels within `radius` (Euclidean) of a marked one: bool [H, W]."""
    height, width = region.shape
    wide = np.pad(region, ((radius, radius), (radius + 1, radius))).cumsum(axis=1, dtype=np.int32)
    result = np.zeros_like(region)
    for dy in range(-radius, radius + 1):
        half = int(np.sqrt(radius * radius - dy * dy))
        rows = wide[radius + dy : radius + dy + height]
        first = radius - half
        ends = rows[:, first + 2 * half + 1 : first + 2 * half + 1 + width]
        result |= ends > rows[:, first : first + width]
    return result
