"""From predictions to detections: non-maximum suppression and the fixed number of rows.

This is the reference in NumPy. The graphs for TensorFlow and ONNX do the same, step by step:

1. Each prediction has one class, that of its highest score; predictions at or below the score
   threshold are dropped.
2. Within each class, best first: a box that overlaps a kept one by more than the IoU threshold is
   dropped. Of equal scores the earlier prediction counts as better.
3. The best `rows` of what is left, over all classes.
"""

from dataclasses import dataclass

import numpy as np

from models.detection.boxes import pairwise_iou


@dataclass(frozen=True)
class Detections:
    """What was found in one image, best first.

    Attributes:
        boxes_xyxy: float32 [D, 4] in pixels.
        scores: float32 [D].
        class_ids: int32 [D].
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray
    class_ids: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, score_threshold: float) -> "Detections":
        """Returns those with a higher score."""
        keep = self.scores > score_threshold
        return Detections(self.boxes_xyxy[keep], self.scores[keep], self.class_ids[keep])


def select(
    boxes_xyxy: np.ndarray,
    scores: np.ndarray,
    score_threshold: float,
    iou_threshold: float,
    rows: int,
) -> Detections:
    """Picks the detections of one image.

    Args:
        boxes_xyxy: float32 [P, 4].
        scores: float32 [P, C].
        score_threshold: scores must be above it.
        iou_threshold: overlap, 0 to 1, above which the lower score goes.
        rows: how many to return at most.
    """
    class_ids = scores.argmax(axis=1).astype(np.int32)
    best = scores.max(axis=1)
    candidates = np.flatnonzero(best > score_threshold)
    candidates = candidates[np.argsort(-best[candidates], kind="stable")]
    kept = np.concatenate(
        [
            _suppress(candidates[class_ids[candidates] == c], boxes_xyxy, iou_threshold, rows)
            for c in range(scores.shape[1])
        ]
    )
    kept = kept[np.lexsort((kept, -best[kept]))][:rows]
    return Detections(boxes_xyxy[kept], best[kept], class_ids[kept])


def _suppress(
    order: np.ndarray, boxes_xyxy: np.ndarray, iou_threshold: float, rows: int
) -> np.ndarray:
    """Returns those of `order` (indices, best first) that no better kept box overlaps."""
    kept: list[int] = []
    while len(order) and len(kept) < rows:
        first, order = order[0], order[1:]
        kept.append(int(first))
        overlap = pairwise_iou(boxes_xyxy[[first]], boxes_xyxy[order])[0]
        order = order[overlap <= iou_threshold]
    return np.array(kept, np.int64)
