"""The face network: a learned half, a fitted half, and what only training uses."""

import math
from dataclasses import dataclass

import keras
from keras import layers, ops

from models.common.backbone import BATCH_NORM_MOMENTUM, build_backbone
from models.face.config import EMBEDDING_UNITS, NetworkConfig
from models.face.gradients import OrientedGradients

EMBEDDING, COSINES = "embedding", "cosines"
DISCRIMINANTS = "discriminants"


@keras.saving.register_keras_serializable("face")
class UnitLength(layers.Layer):
    """Divides each row by its Euclidean length: float32 [N, D] on the unit sphere."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(dtype="float32", **kwargs)

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Normalises float [N, D]."""
        # The floor is under the root: an all-zero row stays zero, also in its gradient.
        squares = ops.sum(ops.square(x), axis=-1, keepdims=True)
        return x * ops.rsqrt(ops.maximum(squares, 1e-12))

    def get_config(self) -> dict[str, object]:
        """Returns what re-creates the layer."""
        return {key: v for key, v in super().get_config().items() if key != "dtype"}


@keras.saving.register_keras_serializable("face")
class ClassCosines(layers.Layer):
    """Cosines between embeddings and one learned centre for each training identity.

    Args:
        classes: number of identities, C.

    Call arguments:
        embedding: unit vectors, float [N, D].

    Source: Deng et al. 2019, "ArcFace", section 3.1.
    """

    def __init__(self, classes: int, **kwargs: object) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.classes = classes

    def build(self, embedding_shape: tuple[int | None, ...]) -> None:
        """Creates the centres, float [D, C]."""
        self.centres = self.add_weight(
            shape=(embedding_shape[-1], self.classes),
            initializer="glorot_normal",
            name="centres",
        )

    def call(self, embedding: keras.KerasTensor) -> keras.KerasTensor:
        """Returns float [N, C]."""
        lengths = ops.sqrt(ops.sum(ops.square(self.centres), axis=0, keepdims=True) + 1e-12)
        return ops.matmul(embedding, self.centres / lengths)

    def get_config(self) -> dict[str, object]:
        """Returns what re-creates the layer."""
        config = {key: v for key, v in super().get_config().items() if key != "dtype"}
        return {**config, "classes": self.classes}


@dataclass(frozen=True)
class FaceNetwork:
    """The network as it is served, and the parts that training treats apart; all share layers.

    Attributes:
        embedder: image float [N, S, S, 3], values 0 to 255 -> `embedding` float32 [N, 128], unit
            vectors: what is served.
        learned: image -> the half that gradient descent improves, unit vectors float32 [N, D].
        features: image -> what the fitted half is made of, float32 [N, F].
    """

    embedder: keras.Model
    learned: keras.Model
    features: keras.Model

    @property
    def projection(self) -> layers.Dense | None:
        """The layer from `features` to the fitted half; None if there is no such half."""
        names = [layer.name for layer in self.embedder.layers]
        return self.embedder.get_layer(DISCRIMINANTS) if DISCRIMINANTS in names else None


def build_network(config: NetworkConfig) -> FaceNetwork:
    """Builds the network with random weights.

    The two halves d and t, each of unit length, join as [sqrt(1 - w) d, sqrt(w) t]: a unit vector
    again, whose squared distances are the mean of the halves', weighted by the fitted one's share
    w.
    """
    size, fitted = config.image_size, config.discriminants
    image = keras.Input((size, size, 3), name="image")
    gradients = OrientedGradients(
        config.gradients.scales, config.gradients.bins, config.gradients.cell, name="gradients"
    )(image)  # (N, h, w, scales * bins)
    features = layers.Flatten(dtype="float32", name="features")(gradients)
    learned = _learned_half(config, image, gradients)
    if fitted.units:
        projection = layers.Dense(
            fitted.units, trainable=False, dtype="float32", name=DISCRIMINANTS
        )
        halves = [
            layers.Rescaling(math.sqrt(1 - fitted.share), dtype="float32", name="learned_share")(
                learned
            ),
            layers.Rescaling(math.sqrt(fitted.share), dtype="float32", name="fitted_share")(
                UnitLength(name="fitted_unit")(projection(features))
            ),
        ]
        embedding = layers.Concatenate(dtype="float32", name=EMBEDDING)(halves)  # (N, 128)
    else:
        embedding = layers.Identity(dtype="float32", name=EMBEDDING)(learned)
    return FaceNetwork(
        keras.Model(image, {EMBEDDING: embedding}, name="face"),
        keras.Model(image, learned, name="learned"),
        keras.Model(image, features, name="features"),
    )


def _learned_half(
    config: NetworkConfig, image: keras.KerasTensor, gradients: keras.KerasTensor
) -> keras.KerasTensor:
    """Puts the learned half on an image [N, S, S, 3] or its gradients [N, h, w, C].

    1. Pixels to -1..1, or gradients normalised by channel; backbone -> [N, h', w', F].
    2. All of it as one row, or its mean over the picture; dropout.
    3. Dense, batch normalisation, unit length: float32 [N, 128 - fitted units].

    Source: Deng et al. 2019, "ArcFace", section 3.2: the head called option E.
    """
    if config.front == "pixels":
        x = layers.Rescaling(1 / 127.5, offset=-1.0, name="scale_pixels")(image)
    else:
        x = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name="scale_gradients")(
            gradients
        )
    x = build_backbone(config.backbone, x)[-1]
    if config.head == "flatten":
        x = layers.Flatten(name="flatten")(x)
    else:
        x = layers.GlobalAveragePooling2D(name="average")(x)
    x = layers.Dropout(config.dropout, name="dropout")(x)
    units = EMBEDDING_UNITS - config.discriminants.units
    x = layers.Dense(units, use_bias=False, name="projection")(x)
    x = layers.BatchNormalization(
        momentum=BATCH_NORM_MOMENTUM, center=False, scale=False, dtype="float32", name="whitening"
    )(x)
    return UnitLength(name="learned_unit")(x)


def build_trainer(learned: keras.Model, identities: int) -> keras.Model:
    """Builds what gradient descent improves: the learned half, and its distance to class centres.

    Args:
        learned: of a `FaceNetwork`; its layers are shared.
        identities: number of training identities, C; 0 leaves the centres out.

    Returns:
        image -> `embedding`, unit vectors float32 [N, D], and `cosines` float32 [N, C].
    """
    # Keras names a model's outputs, in losses and logs, by the layers they come from.
    outputs = {EMBEDDING: layers.Identity(dtype="float32", name=EMBEDDING)(learned.output)}
    if identities:
        outputs[COSINES] = ClassCosines(identities, name=COSINES)(learned.output)
    return keras.Model(learned.input, outputs, name="face_trainer")
