"""Target assignment: which predictions answer for which labelled box.

Task-aligned assignment (Feng et al. 2021, "TOOD", section 3.2.1): a prediction is as good a
candidate for a box as both its score and its overlap say, t = s^alpha * u^beta. The best
`candidates` predictions whose cell's centre lies in the box learn it, the others learn that there
is no object. All shapes are static, so that every backend can compile it.

Letters: N images, P predictions, M rows for labelled boxes, C classes.
"""

from dataclasses import dataclass

from keras import KerasTensor, ops

from models.detection.boxes import iou
from models.detection.config import AssignmentConfig

# Alignments are powers of small numbers; below this a candidate counts as none.
SMALLEST_ALIGNMENT = 1e-20


@dataclass(frozen=True)
class Targets:
    """What every prediction should have been.

    Attributes:
        quality: float32 [N, P] in 0..1: 0 for background, else the alignment, scaled so that the
            best prediction of a box reaches its overlap with it.
        boxes_xyxy: float32 [N, P, 4]; zero for background.
        classes: float32 [N, P, C], one 1 a row; zero for background.
    """

    quality: KerasTensor
    boxes_xyxy: KerasTensor
    classes: KerasTensor


def assign(
    scores: KerasTensor,
    boxes_xyxy: KerasTensor,
    centers: KerasTensor,
    labels: KerasTensor,
    config: AssignmentConfig,
) -> Targets:
    """Assigns labelled boxes to predictions; no gradient flows through the result.

    A prediction that several boxes claim goes to the one it overlaps most.

    Args:
        scores: float32 [N, P, C] in 0..1, as predicted.
        boxes_xyxy: float32 [N, P, 4], as predicted.
        centers: float32 [P, 2], x and y of each prediction's cell.
        labels: float32 [N, M, 5]: box and class id, which is -1 in unused rows.
        config: the powers and the number of candidates.
    """
    scores, boxes_xyxy = ops.stop_gradient(scores), ops.stop_gradient(boxes_xyxy)
    true_boxes, class_ids = labels[..., :4], ops.cast(labels[..., 4], "int32")
    # Class id -1 becomes a row of zeros.
    one_hot = ops.one_hot(class_ids, scores.shape[-1], dtype="float32")  # (N, M, C)
    score = ops.matmul(one_hot, ops.transpose(scores, (0, 2, 1)))  # (N, M, P)
    overlap = iou(true_boxes[:, :, None], boxes_xyxy[:, None])  # (N, M, P)
    alignment = score**config.score_power * overlap**config.iou_power
    alignment = ops.where(_centers_inside(centers, true_boxes), alignment, 0.0)

    chosen = _best_candidates(alignment, config.candidates)
    chosen = _one_box_each(chosen, overlap)
    alignment = alignment * chosen
    overlap = overlap * chosen
    best_overlap = ops.max(overlap, axis=2, keepdims=True)  # (N, M, 1)
    best_alignment = ops.max(alignment, axis=2, keepdims=True)
    scale = best_overlap / ops.maximum(best_alignment, SMALLEST_ALIGNMENT)
    by_prediction = ops.transpose(chosen, (0, 2, 1))  # (N, P, M)
    return Targets(
        quality=ops.sum(alignment * scale, axis=1),
        boxes_xyxy=ops.matmul(by_prediction, true_boxes),
        classes=ops.matmul(by_prediction, one_hot),
    )


def _centers_inside(centers: KerasTensor, boxes: KerasTensor) -> KerasTensor:
    """Tells which centres [P, 2] lie strictly in which boxes [N, M, 4]: bool [N, M, P]."""
    x, y = centers[:, 0], centers[:, 1]
    inside_x = ops.logical_and(x > boxes[..., 0:1], x < boxes[..., 2:3])
    inside_y = ops.logical_and(y > boxes[..., 1:2], y < boxes[..., 3:4])
    return ops.logical_and(inside_x, inside_y)


def _best_candidates(alignment: KerasTensor, count: int) -> KerasTensor:
    """Marks the `count` best predictions of each box: float32 0 or 1, [N, M, P]."""
    worst_of_best = ops.top_k(alignment, count)[0][..., -1:]  # (N, M, 1)
    enough = alignment >= ops.maximum(worst_of_best, SMALLEST_ALIGNMENT)
    return ops.cast(enough, "float32")


def _one_box_each(chosen: KerasTensor, overlap: KerasTensor) -> KerasTensor:
    """Leaves each prediction to the one of its boxes that it overlaps most: [N, M, P]."""
    owner = ops.argmax(chosen * overlap, axis=1)  # (N, P)
    owned = ops.one_hot(owner, chosen.shape[1], axis=1, dtype="float32")  # (N, M, P)
    return chosen * owned
