"""From images to detections in the pixels of the original images, by Keras and NumPy."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from models.detection.boxes import clip_boxes
from models.detection.config import DetectionConfig
from models.detection.letterbox import Letterbox
from models.detection.network import Decoder
from models.detection.nms import Detections, select


class Predictor:
    """A network with its decoding, for batches of letterboxed images.

    Args:
        network: of `build_network`.
        config: the one it was built from.
        batch_size: images computed at once; the last batch is filled up with grey.
    """

    def __init__(self, network: keras.Model, config: DetectionConfig, batch_size: int = 16) -> None:
        self.network = network
        self.decoder = Decoder(config)
        self.batch_size = batch_size

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predicts.

        Args:
            images: uint8 or float32 [N, H, W, 3], letterboxed, 0 to 255.

        Returns:
            boxes_xyxy float32 [N, P, 4] in pixels of the letterboxed image; scores float32
            [N, P, C].
        """
        boxes, scores = [], []
        for start in range(0, len(images), self.batch_size):
            part = images[start : start + self.batch_size]
            missing = self.batch_size - len(part)
            filled = np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)])
            raw = self.network.predict_on_batch(filled)["predictions"][: len(part)]
            boxes.append(ops.convert_to_numpy(self.decoder.boxes(raw)))
            scores.append(ops.convert_to_numpy(self.decoder.scores(raw)))
        return np.concatenate(boxes), np.concatenate(scores)


def to_original(detections: Detections, letterbox: Letterbox, size: tuple[int, int]) -> Detections:
    """Maps boxes from the letterboxed image back to one of `size` (height, width), clipped."""
    boxes = clip_boxes(detections.boxes_xyxy / letterbox.scales, *size)
    return Detections(boxes, detections.scores, detections.class_ids)


def detect(
    predictor: Predictor,
    images: np.ndarray,
    sizes: Sequence[tuple[int, int]],
    config: DetectionConfig,
    score_threshold: float,
) -> list[Detections]:
    """Finds objects in letterboxed images.

    Args:
        predictor: the network.
        images: [N, H, W, 3], letterboxed.
        sizes: height and width of each original image.
        config: gives the network's size, the IoU threshold and the rows.
        score_threshold: scores must be above it.
    """
    boxes, scores = predictor(images)
    found = []
    for row, size in enumerate(sizes):
        chosen = select(
            boxes[row], scores[row], score_threshold, config.iou_threshold, config.max_detections
        )
        letterbox = Letterbox.of(*size, config.height, config.width)
        found.append(to_original(chosen, letterbox, size))
    return found
