"""Detection metrics in NumPy, equal to pycocotools, and the two of Pascal VOC.

The protocol of COCO: within each image and class the detections, best first, take the labelled
box they overlap most, if by at least the IoU threshold and if it is free. Labelled boxes to be
ignored (crowds; in the figures by size, boxes of other sizes) take detections without counting.

Source: Lin et al. 2014, "Microsoft COCO", and the evaluation code of its authors; Everingham et
al. 2010, "The Pascal Visual Object Classes Challenge", section 4.2 for VOC.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from models.detection.boxes import box_areas, intersections
from models.detection.nms import Detections

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MAX_DETECTIONS = 100
SCORING_THRESHOLD = 0.005
"""Score from which on detections are measured: average precision counts weak ones too."""
# Areas in square pixels, as COCO names them.
SIZES = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}


@dataclass(frozen=True)
class Truth:
    """The labelled boxes of one image.

    Attributes:
        boxes_xyxy: float [M, 4], pixels.
        class_ids: int [M].
        ignored: bool [M], crowds: detections on them count neither way.
    """

    boxes_xyxy: np.ndarray
    class_ids: np.ndarray
    ignored: np.ndarray


@dataclass(frozen=True)
class Matches:
    """The detections of one class in all images, best first.

    Attributes:
        scores: float [D].
        correct: bool [T, D]: whether each took a labelled box, for each of T IoU thresholds.
        ignored: bool [T, D]: whether each counts neither way.
        positives: labelled boxes to be found.
    """

    scores: np.ndarray
    correct: np.ndarray
    ignored: np.ndarray
    positives: int


@dataclass(frozen=True)
class Curve:
    """Precision and recall as the score threshold falls, one entry a detection: float [D]."""

    scores: np.ndarray
    precision: np.ndarray
    recall: np.ndarray


def overlaps(truth: np.ndarray, crowd: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Returns IoU float64 [D, M]; with a crowd, the share of the detection that lies in it."""
    found, truth = found.astype(np.float64), truth.astype(np.float64)
    shared = intersections(found, truth)
    union = box_areas(found)[:, None] + box_areas(truth)[None] - shared
    union = np.where(crowd[None], box_areas(found)[:, None], union)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def match_image(
    iou: np.ndarray, crowd: np.ndarray, ignored: np.ndarray, threshold: float
) -> np.ndarray:
    """Gives each detection a labelled box of its image.

    Args:
        iou: float [D, M], detections best first.
        crowd: bool [M]; a crowd can take any number of detections.
        ignored: bool [M], taken only by detections that fit no other box.
        threshold: least overlap.

    Returns:
        int [D]: the box each detection took, -1 for none.
    """
    taken = np.zeros(iou.shape[1], bool)
    matches = np.full(iou.shape[0], -1)
    # The reference lets a later box win a tie, and asks for 1 - 1e-10 at most.
    least = min(threshold, 1 - 1e-10)
    for d, row in enumerate(iou):
        for group in (~ignored, ignored):
            fits = group & (~taken | crowd) & (row >= least)
            if fits.any():
                best = np.flatnonzero(fits & (row == row[fits].max()))[-1]
                matches[d], taken[best] = best, True
                break
    return matches


def match_class(
    truths: Sequence[Truth],
    found: Sequence[Detections],
    class_id: int,
    area_range: tuple[float, float] = SIZES["all"],
    thresholds: np.ndarray = IOU_THRESHOLDS,
) -> Matches:
    """Matches one class in all images.

    Args:
        truths: labelled boxes of each image.
        found: detections of each image, in the same order.
        class_id: the class.
        area_range: labelled boxes and unmatched detections of other areas are ignored.
        thresholds: float [T], of IoU.
    """
    parts = [
        _match_class_in_image(truth, detections, class_id, area_range, thresholds)
        for truth, detections in zip(truths, found, strict=True)
    ]
    scores = np.concatenate([part.scores for part in parts])
    order = np.argsort(-scores, kind="stable")
    return Matches(
        scores[order],
        np.concatenate([part.correct for part in parts], axis=1)[:, order],
        np.concatenate([part.ignored for part in parts], axis=1)[:, order],
        sum(part.positives for part in parts),
    )


def _match_class_in_image(
    truth: Truth,
    found: Detections,
    class_id: int,
    area_range: tuple[float, float],
    thresholds: np.ndarray,
) -> Matches:
    of_class = truth.class_ids == class_id
    boxes, crowd = truth.boxes_xyxy[of_class], truth.ignored[of_class]
    ignored = crowd | _outside(boxes, area_range)
    rows = np.flatnonzero(found.class_ids == class_id)
    rows = rows[np.argsort(-found.scores[rows], kind="stable")][:MAX_DETECTIONS]
    iou = overlaps(boxes, crowd, found.boxes_xyxy[rows])
    taken = np.stack([match_image(iou, crowd, ignored, t) for t in thresholds])  # (T, D)
    matched = taken >= 0
    on_ignored = matched & np.append(ignored, False)[taken]
    odd_size = ~matched & _outside(found.boxes_xyxy[rows], area_range)[None]
    return Matches(
        found.scores[rows], matched & ~on_ignored, on_ignored | odd_size, int((~ignored).sum())
    )


def _outside(boxes_xyxy: np.ndarray, area_range: tuple[float, float]) -> np.ndarray:
    areas = box_areas(boxes_xyxy.astype(np.float64))
    return np.asarray((areas < area_range[0]) | (areas > area_range[1]))


def curve(matches: Matches, threshold_index: int = 0) -> Curve:
    """Returns precision and recall of one class at one IoU threshold."""
    counted = ~matches.ignored[threshold_index]
    correct = matches.correct[threshold_index][counted]
    true_positives = np.cumsum(correct)
    found = np.arange(1, len(correct) + 1)
    return Curve(
        matches.scores[counted], true_positives / found, true_positives / max(1, matches.positives)
    )


def average_precision(matches: Matches, threshold_index: int = 0) -> float:
    """Mean of the best precision at 101 recalls, as COCO has it; NaN without labelled boxes."""
    if matches.positives == 0:
        return float("nan")
    points = curve(matches, threshold_index)
    return float(_precision_at(points, RECALLS).mean())


def voc07_average_precision(matches: Matches, threshold_index: int = 0) -> float:
    """Mean of the best precision at 11 recalls, as VOC 2007 has it; NaN without labelled boxes."""
    if matches.positives == 0:
        return float("nan")
    points = curve(matches, threshold_index)
    return float(_precision_at(points, np.linspace(0, 1, 11)).mean())


def voc_average_precision(matches: Matches, threshold_index: int = 0) -> float:
    """Area under the precision envelope, as VOC 2010 has it; NaN without labelled boxes."""
    if matches.positives == 0:
        return float("nan")
    points = curve(matches, threshold_index)
    steps = np.diff(points.recall, prepend=0)
    return float((_envelope(points.precision) * steps).sum())


def _envelope(precision: np.ndarray) -> np.ndarray:
    """Replaces each precision by the best at the same or a higher recall."""
    return np.maximum.accumulate(precision[::-1])[::-1]


def _precision_at(points: Curve, recalls: np.ndarray) -> np.ndarray:
    """Returns the best precision at each recall or beyond; 0 where it is never reached."""
    envelope = np.append(_envelope(points.precision), 0.0)
    return np.asarray(envelope[np.searchsorted(points.recall, recalls, side="left")])


@dataclass(frozen=True)
class Metrics:
    """Scores of a detector; NaN stands where no labelled box exists.

    Attributes:
        map50: mean over classes of AP at IoU 0.5.
        map: likewise, averaged over IoU 0.5, 0.55, ... 0.95.
        map75: likewise at IoU 0.75.
        voc07: likewise at IoU 0.5, by the 11-point rule.
        voc: likewise at IoU 0.5, by the area rule.
        ap50_by_class: class name -> AP at IoU 0.5.
        ap_by_class: class name -> AP averaged over the IoU thresholds.
        map_by_size: small, medium, large (areas in pixels of the original image) -> as `map`.
        images: how many were measured.
        boxes: labelled boxes in them.
    """

    map50: float
    map: float
    map75: float
    voc07: float
    voc: float
    ap50_by_class: dict[str, float]
    ap_by_class: dict[str, float]
    map_by_size: dict[str, float]
    images: int
    boxes: int

    def as_dict(self) -> dict[str, Any]:
        """Returns the figures by name; NaN, which JSON does not have, becomes None."""
        return without_nan(asdict(self))


def compute_metrics(
    truths: Sequence[Truth], found: Sequence[Detections], labels: Sequence[str]
) -> Metrics:
    """Scores detections against labels, image by image in the same order."""
    matches = [match_class(truths, found, c) for c in range(len(labels))]
    by_threshold = np.array(
        [[average_precision(m, t) for t in range(len(IOU_THRESHOLDS))] for m in matches]
    )  # (C, T)
    return Metrics(
        map50=mean_of_present(by_threshold[:, 0]),
        map=mean_of_present(by_threshold),
        map75=mean_of_present(by_threshold[:, 5]),
        voc07=mean_of_present(np.array([voc07_average_precision(m) for m in matches])),
        voc=mean_of_present(np.array([voc_average_precision(m) for m in matches])),
        ap50_by_class=dict(zip(labels, by_threshold[:, 0].tolist(), strict=True)),
        ap_by_class=dict(zip(labels, by_threshold.mean(axis=1).tolist(), strict=True)),
        map_by_size={
            name: map_of_size(truths, found, len(labels), area_range)
            for name, area_range in SIZES.items()
            if name != "all"
        },
        images=len(truths),
        boxes=sum(int((~truth.ignored).sum()) for truth in truths),
    )


def map_of_size(
    truths: Sequence[Truth],
    found: Sequence[Detections],
    classes: int,
    area_range: tuple[float, float],
) -> float:
    """Returns the mean AP over classes and IoU thresholds of boxes within an area range."""
    matches = [match_class(truths, found, c, area_range) for c in range(classes)]
    return mean_of_present(
        np.array([[average_precision(m, t) for t in range(len(IOU_THRESHOLDS))] for m in matches])
    )


def map50(truths: Sequence[Truth], found: Sequence[Detections], classes: int) -> float:
    """Returns the mean AP over classes at IoU 0.5 alone: quick, for use while training."""
    at_half = IOU_THRESHOLDS[:1]
    matches = [match_class(truths, found, c, thresholds=at_half) for c in range(classes)]
    return mean_of_present(np.array([average_precision(m) for m in matches]))


def without_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of nested figures with None in place of NaN."""
    return {
        name: without_nan(value)
        if isinstance(value, Mapping)
        else (None if isinstance(value, float) and np.isnan(value) else value)
        for name, value in values.items()
    }


def mean_of_present(values: np.ndarray) -> float:
    """Returns the mean without NaN; NaN if nothing else is there."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")


@dataclass(frozen=True)
class OperatingPoint:
    """One class at one score threshold and IoU 0.5; all in 0..1."""

    precision: float
    recall: float
    f1: float


def operating_points(
    truths: Sequence[Truth], found: Sequence[Detections], classes: int, score_threshold: float
) -> list[OperatingPoint]:
    """Returns precision, recall and F1 of each class at a score threshold."""
    points = []
    for class_id in range(classes):
        matches = match_class(truths, found, class_id, thresholds=IOU_THRESHOLDS[:1])
        points.append(operating_point(curve(matches), score_threshold))
    return points


def operating_point(points: Curve, score_threshold: float) -> OperatingPoint:
    """Reads a curve at a score threshold; precision is 1 where nothing was detected."""
    count = int((points.scores > score_threshold).sum())
    if count == 0:
        return OperatingPoint(1.0, 0.0, 0.0)
    precision, recall = float(points.precision[count - 1]), float(points.recall[count - 1])
    return OperatingPoint(precision, recall, float(f1_scores(points)[count - 1]))


def best_threshold(truths: Sequence[Truth], found: Sequence[Detections], classes: int) -> float:
    """Returns the score threshold, a multiple of 0.05, with the best F1, averaged over classes."""
    curves = [
        curve(match_class(truths, found, class_id, thresholds=IOU_THRESHOLDS[:1]))
        for class_id in range(classes)
    ]
    candidates = np.arange(1, 20) / 20
    means = [np.mean([operating_point(c, t).f1 for c in curves]) for t in candidates]
    return float(candidates[int(np.argmax(means))])


def f1_scores(points: Curve) -> np.ndarray:
    """Returns the harmonic mean of precision and recall along a curve, float [D]."""
    total = points.precision + points.recall
    return 2 * points.precision * points.recall / np.maximum(total, 1e-12)


def confusion_matrix(
    truths: Sequence[Truth], found: Sequence[Detections], classes: int, least_iou: float = 0.5
) -> np.ndarray:
    """Counts which class was detected where which was labelled, background last.

    Pairs of a labelled box and a detection of any class are taken by falling IoU. Crowds are left
    out, and so are detections on them.

    Returns:
        int64 [C + 1, C + 1]: rows labelled, columns detected. The last row holds detections of
        nothing, the last column labelled boxes that were missed.
    """
    matrix = np.zeros((classes + 1, classes + 1), np.int64)
    for truth, detections in zip(truths, found, strict=True):
        iou = overlaps(truth.boxes_xyxy, truth.ignored, detections.boxes_xyxy)
        partner = pair_by_overlap(np.where(truth.ignored, 0, iou), least_iou)
        on_crowd = ((iou >= least_iou) & truth.ignored).any(axis=1)
        for d, box in enumerate(partner):
            if box >= 0:
                matrix[truth.class_ids[box], detections.class_ids[d]] += 1
            elif not on_crowd[d]:
                matrix[classes, detections.class_ids[d]] += 1
        missed = ~truth.ignored
        missed[partner[partner >= 0]] = False
        np.add.at(matrix, (truth.class_ids[missed], classes), 1)
    return matrix


def pair_by_overlap(iou: np.ndarray, least: float) -> np.ndarray:
    """Pairs detections with boxes by falling IoU [D, M], each used once.

    Returns:
        int [D]: the box of each detection, -1 for none.
    """
    partner = np.full(iou.shape[0], -1)
    used = np.zeros(iou.shape[1], bool)
    for place in np.argsort(-iou, axis=None, kind="stable"):
        d, box = np.unravel_index(place, iou.shape)
        if iou[d, box] < least:
            break
        if partner[d] < 0 and not used[box]:
            partner[d], used[box] = box, True
    return partner


def image_errors(truth: Truth, found: Detections, least_iou: float = 0.5) -> int:
    """Counts missed boxes, false detections, and boxes of a wrong class in one image."""
    classes = int(max(truth.class_ids.max(initial=0), found.class_ids.max(initial=0))) + 1
    matrix = confusion_matrix([truth], [found], classes, least_iou)
    return int(matrix.sum() - np.trace(matrix))
