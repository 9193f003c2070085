"""The served signatures: image bytes or pixels in, masks of the image's own size out.

`SegmentationModel` answers them from Keras in Python; `make_module` is the same as a `tf.Module`
whose functions become the SavedModel's signatures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models.common.config import load_config
from models.common.run_folder import RunFolder
from models.common.training import set_precision
from models.common.weights import load_float16
from models.segmentation.config import SegmentationConfig
from models.segmentation.network import build_network, mirrored
from protocol.images import decode_image, encode_png
from protocol.tiling import Tiling, predict_tiled


@dataclass(frozen=True)
class SegmentationModel:
    """A trained U-Net with all that answering needs.

    Attributes:
        run: the folder it came from.
        details: what `run.json` says: data digests and dev metrics.
    """

    config: SegmentationConfig
    network: keras.Model
    run: RunFolder
    details: Mapping[str, Any]

    @property
    def labels(self) -> Sequence[str]:
        """The names of the classes, by id."""
        return self.config.labels

    @property
    def tiling(self) -> Tiling:
        """How large images are cut."""
        return Tiling(self.config.tiling.tile, self.config.tiling.overlap)

    def probability(self, images: np.ndarray) -> np.ndarray:
        """Computes the probability of each class at each pixel, in tiles where images are large.

        Args:
            images: uint8 [N, H, W, 3].

        Returns:
            float32 [N, H, W, C].
        """
        return predict_tiled(images, self.tiling, self._predict)

    def _predict(self, images: np.ndarray) -> np.ndarray:
        logits = self.network.predict_on_batch(images)["logits"]
        exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return exponents / exponents.sum(axis=-1, keepdims=True)

    def run_signature(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answers `serving_default`.

        Args:
            inputs: `image_bytes`: object array of bytes, [N].

        Returns:
            `mask_png` object [N] of bytes, `width` and `height` int32 [N], `class_names` object
            [N, C].
        """
        images = [decode_image(data) for data in inputs["image_bytes"]]
        masks = [self.probability(image[None])[0].argmax(axis=-1) for image in images]
        files = [encode_png(mask.astype(np.uint8)) for mask in masks]
        names = np.array([label.encode() for label in self.labels], dtype=object)
        return {
            "mask_png": np.array(files, dtype=object),
            "width": np.array([image.shape[1] for image in images], np.int32),
            "height": np.array([image.shape[0] for image in images], np.int32),
            "class_names": np.tile(names, (len(images), 1)),
        }


def load_model(folder: Path) -> SegmentationModel:
    """Loads a run, or the shipped weights, in float32.

    Raises:
        FileNotFoundError: if the folder holds no finished run.
    """
    run = RunFolder(folder)
    details = run.read_details()
    config = load_config(SegmentationConfig, run.config)
    set_precision("float32")
    network = build_network(config.network, len(config.labels))
    if run.float16_weights.is_file():
        load_float16(network, run.float16_weights)
    else:
        network.load_weights(run.best_weights)
    if config.mirrored:
        network = mirrored(network)
    return SegmentationModel(config, network, run, details)


def make_module(model: SegmentationModel) -> Any:
    """Returns a `tf.Module` with the functions `serving_default`, `tensors` and `probability`.

    Decoding, padding, network, tiling and the PNG encoder are all in the graph, with stock ops.
    """
    import tensorflow as tf

    from models.common.graph_images import decode_each

    pixels = tf.TensorSpec([None, None, None, 3], tf.uint8, name="image")

    class SegmentationModule(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = model.network
            self.class_names = tf.constant(list(model.labels))

        def class_probability(self, image: tf.Tensor) -> tf.Tensor:
            return probability_in_tiles(image, model.tiling, self.untiled, len(model.labels))

        def untiled(self, image: tf.Tensor) -> tf.Tensor:
            return tf.nn.softmax(self.network(image, training=False)["logits"])  # (N, h, w, C)

        def names(self, rows: tf.Tensor) -> tf.Tensor:
            return tf.tile(self.class_names[None], [rows, 1])  # (N, C)

        def packed_mask(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
            mask = most_probable(self.class_probability(image[None])[0])
            height, width = tf.unstack(tf.shape(image)[:2])
            mask_png = tf.io.encode_png(mask[..., None])
            return {"mask_png": mask_png, "width": width, "height": height}

        @tf.function(
            autograph=False,
            input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")],
        )
        def serving_default(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            spec = {
                "mask_png": tf.TensorSpec([], tf.string),
                "width": tf.TensorSpec([], tf.int32),
                "height": tf.TensorSpec([], tf.int32),
            }
            answers = decode_each(image_bytes, self.packed_mask, spec)
            return {**answers, "class_names": self.names(tf.size(image_bytes))}

        @tf.function(autograph=False, input_signature=[pixels])
        def tensors(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
            mask = most_probable(self.class_probability(image))
            return {"mask": mask, "class_names": self.names(tf.shape(image)[0])}

        @tf.function(autograph=False, input_signature=[pixels])
        def probability(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
            found = self.class_probability(image)
            return {
                "mask": most_probable(found),
                "probability": found,
                "class_names": self.names(tf.shape(image)[0]),
            }

    return SegmentationModule()


def most_probable(probability: Any) -> Any:
    """Returns the most probable class: float [..., C] -> uint8 [...], in a TensorFlow graph."""
    import tensorflow as tf

    return tf.cast(tf.argmax(probability, axis=-1, output_type=tf.int32), tf.uint8)


def probability_in_tiles(image: Any, tiling: Tiling, predict: Any, classes: int) -> Any:
    """Computes what `protocol.tiling.predict_tiled` does, in a TensorFlow graph.

    Args:
        image: uint8 [N, H, W, 3].
        tiling: how it is cut.
        predict: maps uint8 [N, h, w, 3] to float32 [N, h, w, C].
        classes: C.

    Returns:
        float32 [N, H, W, C].
    """
    import tensorflow as tf

    rows, height, width = tf.unstack(tf.shape(image)[:3])
    tile_height, tile_width = tf.minimum(height, tiling.tile), tf.minimum(width, tiling.tile)
    step = tiling.tile - tiling.overlap
    tops = _tiles_along(height, tiling)
    lefts = _tiles_along(width, tiling)
    ramps = _ramp(tile_height, tiling.overlap)[:, None] * _ramp(tile_width, tiling.overlap)
    window = ramps[None, :, :, None]  # (1, h, w, 1)

    def add_tile(number: Any, total: Any, weights: Any) -> Any:
        top = tf.minimum(number // lefts * step, height - tile_height)
        left = tf.minimum(number % lefts * step, width - tile_width)
        part = image[:, top : top + tile_height, left : left + tile_width]
        place = [
            [0, 0],
            [top, height - tile_height - top],
            [left, width - tile_width - left],
            [0, 0],
        ]
        total += tf.pad(predict(part) * window, place)
        return number + 1, total, weights + tf.pad(window, place)

    def blend() -> Any:
        start = (
            tf.constant(0),
            tf.zeros(tf.stack([rows, height, width, classes])),
            tf.zeros(tf.stack([1, height, width, 1])),
        )
        shapes = (
            tf.TensorShape([]),
            tf.TensorShape([None, None, None, classes]),
            tf.TensorShape([1, None, None, 1]),
        )
        _, total, weights = tf.while_loop(
            lambda number, *_: number < tops * lefts,
            add_tile,
            start,
            shape_invariants=shapes,
            parallel_iterations=1,
        )
        return total / weights

    fits = tf.maximum(height, width) <= tiling.tile
    return tf.cond(fits, lambda: predict(image), blend)


def _tiles_along(size: Any, tiling: Tiling) -> Any:
    """Counts the tiles along a side of `size` pixels, an int32 scalar in a TensorFlow graph."""
    import tensorflow as tf

    step = tiling.tile - tiling.overlap
    return 1 + tf.maximum(0, (size - tiling.tile + step - 1) // step)


def _ramp(size: Any, overlap: int) -> Any:
    """Returns the weights of `Tiling.window` along one side: float32 [size]."""
    import tensorflow as tf

    position = tf.range(size)
    distance = tf.minimum(position, size - 1 - position) + 1
    return tf.cast(tf.minimum(distance, overlap + 1), tf.float32) / (overlap + 1)
