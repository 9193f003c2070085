"""Boxes as [x_min, y_min, x_max, y_max] in pixels: overlap, in NumPy and in `keras.ops`."""

import math

import numpy as np
from keras import KerasTensor, ops

EPSILON = 1e-7


def box_areas(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Returns the areas, float [...], of boxes [..., 4]; inverted boxes have none."""
    sides = np.maximum(boxes_xyxy[..., 2:] - boxes_xyxy[..., :2], 0)
    return np.asarray(sides[..., 0] * sides[..., 1])


def intersections(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the shared areas, float [N, M], of boxes [N, 4] and [M, 4]."""
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.maximum(bottom_right - top_left, 0)  # (N, M, 2)
    return np.asarray(sides[..., 0] * sides[..., 1])


def pairwise_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns intersection over union, float [N, M] in 0..1, of boxes [N, 4] and [M, 4]."""
    shared = intersections(a, b)
    union = box_areas(a)[:, None] + box_areas(b)[None, :] - shared
    return shared / np.maximum(union, EPSILON)


def clip_boxes(boxes_xyxy: np.ndarray, height: float, width: float) -> np.ndarray:
    """Cuts boxes [..., 4] to an image of the given size."""
    return np.clip(boxes_xyxy, 0, np.array([width, height, width, height], boxes_xyxy.dtype))


def iou(a: KerasTensor, b: KerasTensor) -> KerasTensor:
    """Intersection over union of boxes [..., 4] that broadcast: float [...]."""
    shared, union = _shared_and_union(a, b)
    return shared / union


def complete_iou(a: KerasTensor, b: KerasTensor) -> KerasTensor:
    """Intersection over union, less what keeps two boxes apart: float [...], at most 1.

    CIoU = IoU - d^2 / c^2 - alpha v, with d the distance of the centres, c the diagonal of the
    smallest box around both, v the squared difference of the aspect angles times 4 / pi^2, and
    alpha = v / (1 - IoU + v), through which no gradient flows.

    Args:
        a: predicted boxes [..., 4].
        b: labelled boxes, broadcasting with `a`.

    Source: Zheng et al. 2020, "Distance-IoU Loss", equations 7 to 11.
    """
    shared, union = _shared_and_union(a, b)
    overlap = shared / union
    around = ops.maximum(a[..., 2:], b[..., 2:]) - ops.minimum(a[..., :2], b[..., :2])
    diagonal = ops.sum(around**2, axis=-1) + EPSILON
    between = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    distance = ops.sum(between**2, axis=-1) / diagonal
    angle = _aspect_angle(a) - _aspect_angle(b)
    v = 4 / math.pi**2 * angle**2
    alpha = ops.stop_gradient(v / (1 - overlap + v + EPSILON))
    return overlap - distance - alpha * v


def _shared_and_union(a: KerasTensor, b: KerasTensor) -> tuple[KerasTensor, KerasTensor]:
    sides = ops.minimum(a[..., 2:], b[..., 2:]) - ops.maximum(a[..., :2], b[..., :2])
    sides = ops.maximum(sides, 0)
    shared = sides[..., 0] * sides[..., 1]
    return shared, _area(a) + _area(b) - shared + EPSILON


def _area(boxes: KerasTensor) -> KerasTensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _aspect_angle(boxes: KerasTensor) -> KerasTensor:
    sides = boxes[..., 2:] - boxes[..., :2]
    return ops.arctan(sides[..., 0] / (sides[..., 1] + EPSILON))
