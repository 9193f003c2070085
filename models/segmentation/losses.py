"""The loss: cross-entropy plus soft dice, over the pixels that have a class."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from models.segmentation.config import VOID

# Keeps the dice of a class without pixels and without predictions at 1.
SMOOTHING = 1.0


@keras.saving.register_keras_serializable("keras_model_service.segmentation")
class SegmentationLoss(keras.losses.Loss):
    """(1 - d) times the weighted cross-entropy plus d times the dice loss.

    Args:
        class_weights: weight of each class's pixels in the cross-entropy.
        dice_weight: d.

    Call arguments:
        y_true: int [N, H, W], class ids or VOID.
        y_pred: logits, float [N, H, W, C].
    """

    def __init__(self, class_weights: Sequence[float], dice_weight: float, **settings: Any) -> None:
        super().__init__(**{"name": "segmentation_loss", **settings})
        self.class_weights = tuple(float(weight) for weight in class_weights)
        self.dice_weight = dice_weight

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the loss of each image, float [N]; the dice part is the batch's."""
        class_ids = ops.cast(y_true, "int32")
        logits = ops.cast(y_pred, "float32")
        entropy = cross_entropy(class_ids, logits, self.class_weights)
        if not self.dice_weight:
            return entropy
        dice = dice_loss(class_ids, logits)
        return (1.0 - self.dice_weight) * entropy + self.dice_weight * dice

    def get_config(self) -> dict[str, Any]:
        """Returns what rebuilds the loss."""
        own = {"class_weights": self.class_weights, "dice_weight": self.dice_weight}
        return {**super().get_config(), **own}


def cross_entropy(
    class_ids: keras.KerasTensor, logits: keras.KerasTensor, class_weights: Sequence[float]
) -> keras.KerasTensor:
    """Weighted mean over each image's pixels of -log p(true class).

    sum of w(c) * -log p(c) over the pixels, divided by the number of pixels that have a class.

    Args:
        class_ids: int32 [N, H, W], class ids or VOID.
        logits: float32 [N, H, W, C].
        class_weights: w, one number a class.

    Returns:
        float32 [N].
    """
    targets = _one_hot(class_ids, logits.shape[-1])  # (N, H, W, C), all 0 where void
    weighted = targets * ops.convert_to_tensor(list(class_weights), "float32")
    total = -ops.sum(weighted * ops.log_softmax(logits), axis=(1, 2, 3))
    return total / ops.maximum(ops.sum(targets, axis=(1, 2, 3)), 1.0)


def dice_loss(class_ids: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
    """One minus the soft dice of the batch, averaged over the classes that it holds.

    dice(c) = (2 sum p g + s) / (sum p + sum g + s), sums over all pixels that have a class, p the
    probability of class c, g whether it is the true one, s = `SMOOTHING`.

    Args:
        class_ids: int32 [N, H, W], class ids or VOID.
        logits: float32 [N, H, W, C].

    Returns:
        float32 scalar.

    Source: Milletari et al. 2016, "V-Net", section 3, with sums instead of sums of squares.
    """
    targets = _one_hot(class_ids, logits.shape[-1])
    known = ops.sum(targets, axis=-1, keepdims=True)
    probability = ops.softmax(logits) * known
    pixels = (0, 1, 2)
    truth = ops.sum(targets, axis=pixels)  # (C,)
    overlap = ops.sum(probability * targets, axis=pixels)
    total = ops.sum(probability, axis=pixels) + truth
    dice = (2.0 * overlap + SMOOTHING) / (total + SMOOTHING)
    present = ops.cast(truth > 0, "float32")
    return 1.0 - ops.sum(dice * present) / ops.maximum(ops.sum(present), 1.0)


def _one_hot(class_ids: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Returns float32 [N, H, W, classes], all zeros for VOID."""
    void = class_ids == VOID
    class_ids = ops.where(void, 0, class_ids)
    known = ops.cast(ops.logical_not(void), "float32")
    return ops.one_hot(class_ids, classes, dtype="float32") * known[..., None]


def class_weights(frequencies: Sequence[float], power: float) -> list[float]:
    """Returns (median frequency / frequency) ^ power for each class; 1 for an absent one.

    The weights are scaled so that, weighted by frequency, they are 1 on average.

    Source: Eigen and Fergus 2015, section 6.3.2 (power 1).
    """
    present = sorted(f for f in frequencies if f > 0)
    if not present or not power:
        return [1.0] * len(frequencies)
    median = present[len(present) // 2]
    weights = [(median / f) ** power if f > 0 else 1.0 for f in frequencies]
    mean = sum(w * f for w, f in zip(weights, frequencies, strict=True)) / sum(frequencies)
    return [weight / mean for weight in weights]
