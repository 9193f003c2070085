"""The served signatures: image bytes in, embeddings and the version's own thresholds out.

`FaceModel` answers them from Keras in Python; `make_module` is the same as a `tf.Module` whose
functions become the SavedModel's signatures.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models.common.config import load_config
from models.common.run_folder import RunFolder
from models.common.weights import load_float16
from models.face.augmentation import thousandths, to_network_values
from models.face.config import EMBEDDING_UNITS, FaceConfig
from models.face.metrics import FALSE_ACCEPT_RATES
from models.face.network import EMBEDDING, build_network
from models.face.train import embed_images
from protocol.image_pipelines import decode_images

THRESHOLD = "threshold"


@dataclass(frozen=True)
class FaceModel:
    """A trained recogniser with all that answering needs.

    Attributes:
        network: image float [N, S, S, 3] -> `embedding`.
        run: the folder it came from.
        details: what `run.json` says: thresholds, data digests and dev metrics.
    """

    config: FaceConfig
    network: keras.Model
    run: RunFolder
    details: Mapping[str, Any]

    @property
    def labels(self) -> tuple[str, ...]:
        """Embeddings have no classes."""
        return ()

    @property
    def thresholds(self) -> dict[str, float]:
        """Squared distances at which pairs are accepted: `accuracy`, `far_1e-2`, `far_1e-3`."""
        return dict(self.details["thresholds"])

    @property
    def threshold_row(self) -> np.ndarray:
        """The output `threshold` of each picture, float32 [2]: `far_1e-2`, then `far_1e-3`."""
        return np.array([self.thresholds[name] for name in FALSE_ACCEPT_RATES], np.float32)

    def run_signature(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answers `serving_default`.

        Args:
            inputs: `image_bytes`: object array of the bytes of JPEG or PNG files, [N].

        Returns:
            `embedding`, unit vectors float32 [N, 128], and `threshold` float32 [N, 2], the same in
            each row.

        Raises:
            InvalidRequestError: if a file cannot be decoded; the message gives its row.
        """
        images = decode_images(inputs["image_bytes"])
        size = self.config.network.image_size
        values = np.zeros((len(images), size, size, 3), np.float32)
        for row, image in enumerate(images):
            values[row] = to_network_values(image, self.config.network)
        return {
            EMBEDDING: embed_images(self.network, values, self.config.network),
            THRESHOLD: np.tile(self.threshold_row, (len(images), 1)),
        }


def load_model(folder: Path) -> FaceModel:
    """Loads a run, or the shipped weights, in full precision.

    Raises:
        FileNotFoundError: if the folder holds no finished run.
    """
    run = RunFolder(folder)
    details = run.read_details()
    config = load_config(FaceConfig, run.config)
    embedder = build_network(config.network).embedder
    if run.float16_weights.is_file():
        load_float16(embedder, run.float16_weights)
    else:
        embedder.load_weights(run.best_weights)
    return FaceModel(config, embedder, run, details)


def make_module(model: FaceModel) -> Any:
    """Returns a `tf.Module` with the functions `serving_default` and `tensors`.

    Decoding, crop, resizing and network are all in the graph, with stock ops.
    """
    import tensorflow as tf

    from models.common.graph_images import decode_each

    config = model.config.network
    size = config.image_size
    prepared = tf.TensorSpec([size, size, 3], tf.float32)

    class FaceModule(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = model.network
            self.threshold_row = tf.constant(model.threshold_row)

        def crop(self, image: tf.Tensor) -> tf.Tensor:
            """Image uint8 [..., H, W, 3] -> float32 [..., S, S, 3]."""
            shape = tf.shape(image)
            height, width = shape[-3], shape[-2]
            shorter = tf.minimum(height, width)
            side = tf.maximum(1, (shorter * thousandths(config.central) + 500) // 1000)
            top, left = (height - side) // 2, (width - side) // 2
            square = image[..., top : top + side, left : left + side, :]
            return tf.image.resize(square, (size, size), antialias=True)

        def embed(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
            """Images float32 [N, S, S, 3] -> the outputs of both signatures."""
            rows = tf.shape(images)[0]
            # One row at least: TensorFlow's convolution miscounts an empty batch.
            missing = tf.cast(tf.equal(rows, 0), tf.int32)
            images = tf.pad(images, [[0, missing], [0, 0], [0, 0], [0, 0]])
            if config.flip_average:
                images = tf.concat([images, images[:, :, ::-1]], axis=0)
            embedding = self.network(images, training=False)[EMBEDDING]
            if config.flip_average:
                plain, mirrored = tf.split(embedding, 2)
                embedding = tf.math.l2_normalize(plain + mirrored, axis=1)
            return {
                EMBEDDING: tf.ensure_shape(embedding[:rows], (None, EMBEDDING_UNITS)),
                THRESHOLD: tf.tile(self.threshold_row[tf.newaxis], [rows, 1]),
            }

        @tf.function(
            autograph=False, input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")]
        )
        def serving_default(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            return self.embed(decode_each(image_bytes, self.crop, prepared))

        @tf.function(
            autograph=False,
            input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="image")],
        )
        def tensors(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
            return self.embed(self.crop(image))

    return FaceModule()
