"""The two losses of face recognition: triplets, and softmax with an angular margin."""

import math

import keras
from keras import ops

from models.face.config import LossConfig
from models.face.network import COSINES, EMBEDDING
from models.face.triplets import (
    hardest_negative,
    hardest_positive,
    positive_pairs,
    semi_hard,
    squared_distances,
)

# Keeps the derivative of the square root finite where a cosine reaches 1.
COSINE_LIMIT = 1.0 - 1e-6


@keras.saving.register_keras_serializable("face")
class TripletLoss(keras.losses.Loss):
    """Pulls an anchor to its positives and away from negatives until a margin lies between.

    loss(a, p, n) = max(|a - p|^2 - |a - n|^2 + margin, 0), over the triplets that mining picks.

    Args:
        margin: between squared distances of unit vectors.
        mining: `semi_hard`: every positive with its semi-hard negative, averaged for each anchor;
            `batch_hard`: each anchor with its hardest positive and hardest negative.

    Call arguments:
        y_true: identities, int [N], each at least twice in the batch.
        y_pred: unit vectors, float [N, D].

    Source: Schroff et al. 2015, "FaceNet", equation 3.
    """

    def __init__(
        self, margin: float = 0.3, mining: str = "semi_hard", name: str = "triplet_loss"
    ) -> None:
        super().__init__(name=name)
        self.margin = margin
        self.mining = mining

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """Returns each anchor's loss, float [N]."""
        identities = ops.cast(ops.reshape(y_true, (-1,)), "int32")
        distances = squared_distances(ops.cast(y_pred, "float32"))
        if self.mining == "batch_hard":
            positive = hardest_positive(distances, identities)
            return ops.relu(positive - hardest_negative(distances, identities) + self.margin)
        losses = ops.relu(distances - semi_hard(distances, identities) + self.margin)
        counts = ops.cast(positive_pairs(identities), "float32")  # (anchor, positive)
        return ops.sum(losses * counts, axis=1) / ops.maximum(ops.sum(counts, axis=1), 1.0)

    def get_config(self) -> dict[str, object]:
        """Returns what re-creates the loss."""
        return {"margin": self.margin, "mining": self.mining, "name": self.name}


@keras.saving.register_keras_serializable("face")
class AngularMarginLoss(keras.losses.Loss):
    """Cross-entropy of scaled cosines, with a margin added to the angle of the true class.

    1. theta = arccos(cos) for the true class; its cosine becomes cos(theta + margin).
    2. Where theta + margin would pass pi, cos - margin * sin(margin) stands in: it goes on falling.
    3. Cross-entropy of scale * cosines.

    Args:
        margin: radians.
        scale: of the cosines.

    Call arguments:
        y_true: class ids, int [N].
        y_pred: cosines to each class centre, float [N, C].

    Source: Deng et al. 2019, "ArcFace", equation 3.
    """

    def __init__(
        self, margin: float = 0.35, scale: float = 32.0, name: str = "angular_margin_loss"
    ) -> None:
        super().__init__(name=name)
        self.margin = margin
        self.scale = scale

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """Returns each row's loss, float [N]."""
        class_ids = ops.cast(ops.reshape(y_true, (-1,)), "int32")
        cosines = ops.clip(ops.cast(y_pred, "float32"), -COSINE_LIMIT, COSINE_LIMIT)
        sines = ops.sqrt(1.0 - ops.square(cosines))
        widened = cosines * math.cos(self.margin) - sines * math.sin(self.margin)
        beyond = cosines - self.margin * math.sin(self.margin)
        with_margin = ops.where(cosines > -math.cos(self.margin), widened, beyond)
        is_own = ops.arange(cosines.shape[-1])[None, :] == class_ids[:, None]  # (N, C)
        logits = self.scale * ops.where(is_own, with_margin, cosines)
        return ops.sparse_categorical_crossentropy(class_ids, logits, from_logits=True)

    def get_config(self) -> dict[str, object]:
        """Returns what re-creates the loss."""
        return {"margin": self.margin, "scale": self.scale, "name": self.name}


def losses_by_output(config: LossConfig) -> dict[str, keras.losses.Loss]:
    """Returns the losses in use by the trainer's output that each judges."""
    losses: dict[str, keras.losses.Loss] = {}
    if config.triplet_weight:
        losses[EMBEDDING] = TripletLoss(config.triplet_margin, config.mining)
    if config.angular_weight:
        losses[COSINES] = AngularMarginLoss(config.angular_margin, config.angular_scale)
    return losses
