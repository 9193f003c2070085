"""Losses of the detector: where a box is, whether there is one, and what it shows."""

from typing import Any

import keras
from keras import KerasTensor, ops

from models.detection.boxes import complete_iou
from models.detection.config import DetectionConfig
from models.detection.network import Decoder
from models.detection.targets import assign

PARTS = ("box", "objectness", "class")


class DetectionLoss:
    """The three parts of the loss, each a sum over predictions divided by the summed quality.

    1. box: 1 - CIoU of each assigned prediction, weighted by its quality.
    2. objectness: cross-entropy of every prediction with its quality (0 for background), so that
       the score also says how well the box fits (Li et al. 2020, "Generalized Focal Loss", 3.1).
    3. class: cross-entropy of each assigned prediction's classes, weighted by its quality.
    """

    def __init__(self, config: DetectionConfig) -> None:
        self.decoder = Decoder(config)
        self.assignment = config.assignment
        training = config.training
        self.weights = dict(
            zip(
                PARTS,
                (training.box_weight, training.objectness_weight, training.class_weight),
                strict=True,
            )
        )

    def __call__(self, labels: KerasTensor, predictions: KerasTensor) -> dict[str, KerasTensor]:
        """Returns the weighted parts by name, float32 scalars.

        Args:
            labels: float32 [N, M, 5]: box and class id, which is -1 in unused rows.
            predictions: float32 [N, P, 5 + C] from the network.
        """
        predictions = ops.cast(predictions, "float32")
        boxes = self.decoder.boxes(predictions)
        targets = assign(
            self.decoder.scores(predictions), boxes, self.decoder.centers, labels, self.assignment
        )
        quality = targets.quality  # (N, P)
        total = ops.maximum(ops.sum(quality), 1.0)
        # Background has a target box of zeros; its overlap is discarded, its gradient is zero.
        misfit = ops.where(quality > 0, 1 - complete_iou(boxes, targets.boxes_xyxy), 0.0)
        objectness = cross_entropy(quality, predictions[..., 4])
        classes = ops.sum(cross_entropy(targets.classes, predictions[..., 5:]), axis=-1)
        sums = {
            "box": ops.sum(misfit * quality),
            "objectness": ops.sum(objectness),
            "class": ops.sum(classes * quality),
        }
        return {name: self.weights[name] * value / total for name, value in sums.items()}


def cross_entropy(target: KerasTensor, logit: KerasTensor) -> KerasTensor:
    """Binary cross-entropy of a probability 0..1 with a logit, element by element."""
    return ops.relu(logit) - logit * target + ops.log1p(ops.exp(-ops.abs(logit)))


class Learner(keras.Model):
    """A network under training: adds the loss, and the mean of each of its parts to the logs.

    It shares its layers, and so its weights and weight files, with the network it is made of.
    """

    detection_loss: DetectionLoss
    part_means: list[keras.metrics.Mean]

    @classmethod
    def of(cls, network: keras.Model, config: DetectionConfig) -> "Learner":
        """Wraps a network of `build_network`."""
        learner = cls(inputs=network.inputs, outputs=network.output, name=network.name)
        learner.detection_loss = DetectionLoss(config)
        learner.part_means = [keras.metrics.Mean(f"{name}_loss") for name in PARTS]
        return learner

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> KerasTensor:
        """Returns the sum of the parts and of the regularisation."""
        parts = self.detection_loss(y["predictions"], y_pred["predictions"])
        for mean in self.part_means:
            mean.update_state(parts[mean.name.removesuffix("_loss")])
        return sum(parts.values()) + sum(self.losses)
