"""The loss: cross-entropy with smoothed labels, over the tokens that are there."""

from typing import Any

import keras
from keras import ops

from protocol.subwords import PADDING_ID


@keras.saving.register_keras_serializable("keras_model_service.translation")
class SmoothedCrossEntropy(keras.losses.Loss):
    """Mean over a batch's tokens of the cross-entropy with smoothed labels.

    The true token gets the probability 1 - e + e / V, every other one e / V.

    Args:
        smoothing: e.

    Call arguments:
        y_true: int [N, T], token ids; PADDING where nothing is to be predicted.
        y_pred: logits, float [N, T, V].

    Source: Szegedy et al. 2016, "Rethinking the Inception Architecture", section 7.
    """

    def __init__(self, smoothing: float, **settings: Any) -> None:
        super().__init__(**{"name": "smoothed_cross_entropy", **settings})
        self.smoothing = smoothing

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """Returns float [N], whose mean is the mean over the batch's tokens."""
        losses = token_losses(y_true, y_pred, self.smoothing)  # (N, T)
        rows = ops.cast(ops.shape(losses)[0], "float32")
        tokens = ops.sum(ops.cast(y_true != PADDING_ID, "float32"))
        return ops.sum(losses, axis=-1) * (rows / ops.maximum(tokens, 1.0))

    def get_config(self) -> dict[str, Any]:
        """Returns what rebuilds the loss."""
        return {**super().get_config(), "smoothing": self.smoothing}


def token_losses(
    token_ids: keras.KerasTensor, logits: keras.KerasTensor, smoothing: float = 0.0
) -> keras.KerasTensor:
    """Computes the cross-entropy of each token.

    (1 - e) (-log p(y)) + e (mean over V of -log p), with -log p(v) = logsumexp(z) - z<v>.

    Args:
        token_ids: y, int [N, T].
        logits: z, float [N, T, V].
        smoothing: e.

    Returns:
        float32 [N, T], 0 where the token is PADDING.
    """
    logits = ops.cast(logits, "float32")
    token_ids = ops.cast(token_ids, "int32")
    normaliser = ops.logsumexp(logits, axis=-1)
    own = ops.squeeze(ops.take_along_axis(logits, token_ids[..., None], axis=-1), axis=-1)
    average = ops.mean(logits, axis=-1) if smoothing else own
    losses = normaliser - (1.0 - smoothing) * own - smoothing * average
    return ops.where(token_ids == PADDING_ID, 0.0, losses)
