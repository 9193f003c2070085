"""The served signatures: image files or pixels in, labelled boxes of the original image out.

`DetectionModel` answers from Keras in Python; `make_module` is the same as a `tf.Module` whose
functions become the SavedModel's signatures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from models.common.config import load_config
from models.common.run_folder import RunFolder
from models.common.training import set_precision
from models.common.weights import load_float16
from models.detection.config import DetectionConfig
from models.detection.letterbox import GREY, Letterbox, place
from models.detection.network import Decoder, build_network
from models.detection.nms import Detections, select
from models.detection.predict import Predictor, to_original
from protocol.image_pipelines import decode_images

NO_DETECTION = -1
"""Class id of the rows after the last detection; their box and score are 0, their label empty."""


@dataclass(frozen=True)
class DetectionModel:
    """A trained detector with all that answering needs.

    Attributes:
        run: the folder it came from.
        details: what `run.json` says: data digests and dev metrics.
    """

    config: DetectionConfig
    network: keras.Model
    run: RunFolder
    details: Mapping[str, Any]

    @property
    def labels(self) -> Sequence[str]:
        """The names of the classes, in the order of their ids."""
        return self.config.labels

    @property
    def defaults(self) -> dict[str, np.float32]:
        """The thresholds that hold where a request names none."""
        return {
            "score_threshold": np.float32(self.config.score_threshold),
            "iou_threshold": np.float32(self.config.iou_threshold),
        }

    def run_signature(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answers `serving_default`.

        Args:
            inputs: `image_bytes`: object array of JPEG or PNG files, [N]; optionally
                `score_threshold` and `iou_threshold`, float32 scalars.

        Returns:
            `boxes_xyxy` float32 [N, K, 4], `scores` float32 [N, K], `class_ids` int32 [N, K],
            `labels` object [N, K], `num_detections` int32 [N].

        Raises:
            InvalidRequestError: for an image that cannot be decoded.
        """
        images = decode_images(inputs["image_bytes"])
        thresholds = {
            name: float(np.clip(inputs.get(name, value), 0, 1))
            for name, value in self.defaults.items()
        }
        return self._rows(self.detect(list(images), **thresholds))

    def detect(
        self, images: Sequence[np.ndarray], score_threshold: float, iou_threshold: float
    ) -> list[Detections]:
        """Finds objects in images uint8 [H, W, 3] of any sizes."""
        if not images:
            return []
        height, width = self.config.height, self.config.width
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        letterboxes = [Letterbox.of(*size, height, width) for size in sizes]
        placed = [
            place(scale_image(image, letterbox), height, width)
            for image, letterbox in zip(images, letterboxes, strict=True)
        ]
        boxes, scores = Predictor(self.network, self.config, batch_size=8)(np.stack(placed))
        rows = self.config.max_detections
        chosen = [
            select(b, s, score_threshold, iou_threshold, rows)
            for b, s in zip(boxes, scores, strict=True)
        ]
        return [
            to_original(found, letterbox, size)
            for found, letterbox, size in zip(chosen, letterboxes, sizes, strict=True)
        ]

    def _rows(self, detections: Sequence[Detections]) -> dict[str, np.ndarray]:
        """Fills answers of K rows an image."""
        shape = (len(detections), self.config.max_detections)
        boxes = np.zeros((*shape, 4), np.float32)
        scores = np.zeros(shape, np.float32)
        class_ids = np.full(shape, NO_DETECTION, np.int32)
        for row, found in enumerate(detections):
            boxes[row, : len(found)] = found.boxes_xyxy
            scores[row, : len(found)] = found.scores
            class_ids[row, : len(found)] = found.class_ids
        names = np.array([*(label.encode() for label in self.labels), b""], dtype=object)
        return {
            "boxes_xyxy": boxes,
            "scores": scores,
            "class_ids": class_ids,
            "labels": names[class_ids],
            "num_detections": np.array([len(found) for found in detections], np.int32),
        }


def scale_image(image_u8: np.ndarray, letterbox: Letterbox) -> np.ndarray:
    """Scales an image for the letterbox without rounding: float32 [h, w, 3], 0 to 255."""
    return np.asarray(
        ops.convert_to_numpy(
            ops.image.resize(
                ops.convert_to_tensor(image_u8, "float32"),
                (letterbox.height, letterbox.width),
                interpolation="bilinear",
                antialias=True,
                data_format="channels_last",
            )
        )
    )


def load_model(folder: Path) -> DetectionModel:
    """Loads a run, or the shipped weights, to compute in full precision.

    Raises:
        FileNotFoundError: if the folder holds no finished run.
    """
    run = RunFolder(folder)
    details = run.read_details()
    config = load_config(DetectionConfig, run.config)
    set_precision("float32")
    network = build_network(config)
    if run.float16_weights.is_file():
        load_float16(network, run.float16_weights)
    else:
        network.load_weights(run.best_weights)
    return DetectionModel(config, network, run, details)


def make_module(model: DetectionModel) -> Any:
    """Returns a `tf.Module` with the functions `serving_default` and `tensors`.

    Decoding, scaling, network, suppression and labels are all in the graph, with stock ops.
    """
    import tensorflow as tf

    from models.common.graph_images import decode_each

    config, decoder = model.config, Decoder(model.config)
    threshold_specs = [tf.TensorSpec([], tf.float32, name=name) for name in model.defaults]

    class DetectionModule(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = model.network
            # Class id -1, of empty rows, is at the end.
            self.labels = tf.constant([*model.labels, ""])

        @tf.function(
            autograph=False,
            input_signature=[
                tf.TensorSpec([None], tf.string, name="image_bytes"),
                *threshold_specs,
            ],
        )
        def serving_default(
            self, image_bytes: tf.Tensor, score_threshold: tf.Tensor, iou_threshold: tf.Tensor
        ) -> dict[str, tf.Tensor]:
            placed, scales, limits = decode_each(
                image_bytes,
                lambda image: letterbox_in_graph(image, config.height, config.width),
                (
                    tf.TensorSpec([config.height, config.width, 3], tf.float32),
                    tf.TensorSpec([4], tf.float32),
                    tf.TensorSpec([4], tf.float32),
                ),
            )
            return self.answer(placed, scales, limits, score_threshold, iou_threshold)

        @tf.function(
            autograph=False,
            input_signature=[
                tf.TensorSpec([None, None, None, 3], tf.uint8, name="image"),
                *threshold_specs,
            ],
        )
        def tensors(
            self, image: tf.Tensor, score_threshold: tf.Tensor, iou_threshold: tf.Tensor
        ) -> dict[str, tf.Tensor]:
            placed, scales, limits = letterbox_in_graph(image, config.height, config.width)
            # One size for all images: broadcast from [4] to [N, 4].
            rows = tf.ones([tf.shape(image)[0], 1])
            return self.answer(placed, rows * scales, rows * limits, score_threshold, iou_threshold)

        def answer(
            self,
            placed: tf.Tensor,
            scales: tf.Tensor,
            limits: tf.Tensor,
            score_threshold: tf.Tensor,
            iou_threshold: tf.Tensor,
        ) -> dict[str, tf.Tensor]:
            # Convolutions refuse an empty batch: it gets one row, which is taken back.
            rows = tf.shape(placed)[0]
            missing = tf.cast(rows == 0, tf.int32)
            filled = tf.pad(placed, [[0, missing], [0, 0], [0, 0], [0, 0]])
            raw = self.network(filled, training=False)["predictions"][:rows]
            found = suppress_in_graph(
                decoder.boxes(raw),
                decoder.scores(raw),
                tf.clip_by_value(score_threshold, 0.0, 1.0),
                tf.clip_by_value(iou_threshold, 0.0, 1.0),
                config.max_detections,
            )
            boxes = found.nmsed_boxes / scales[:, None]  # (N, K, 4)
            boxes = tf.clip_by_value(boxes, 0.0, limits[:, None])
            count = found.valid_detections
            present = tf.sequence_mask(count, config.max_detections)  # (N, K)
            class_ids = tf.where(present, tf.cast(found.nmsed_classes, tf.int32), NO_DETECTION)
            places = tf.where(present, class_ids, len(model.labels))
            return {
                "boxes_xyxy": tf.where(present[..., None], boxes, 0.0),
                "scores": found.nmsed_scores,
                "class_ids": class_ids,
                "labels": tf.gather(self.labels, places),
                "num_detections": count,
            }

    return DetectionModule()


def letterbox_in_graph(image: Any, height: int, width: int) -> tuple[Any, Any, Any]:
    """Letterboxes images of one size in a TensorFlow graph, as `Letterbox` and `place` do.

    Args:
        image: uint8 [H, W, 3] or [N, H, W, 3].
        height: of the network's image.
        width: likewise.

    Returns:
        float32 [height, width, 3] or [N, height, width, 3], 0 to 255; factors from original to
        network pixels, float32 [4]; width, height, width, height of the original, float32 [4].
    """
    import tensorflow as tf

    size = tf.cast(tf.shape(image)[-3:-1], tf.float32)
    limit = tf.constant([height, width], tf.float32)
    inner = tf.floor(size * tf.reduce_min(limit / size) + 0.5)
    inner = tf.clip_by_value(inner, 1.0, limit)
    whole = tf.cast(inner, tf.int32)
    scaled = tf.image.resize(tf.cast(image, tf.float32), whole, antialias=True)
    margin = tf.constant([height, width]) - whole
    # Bottom and right; no margin before the image, between channels or images.
    pads = tf.stack([tf.zeros_like(margin), margin], axis=1)
    pads = tf.concat([tf.zeros([scaled.shape.rank - 3, 2], tf.int32), pads, [[0, 0]]], axis=0)
    placed = tf.pad(scaled, pads, constant_values=float(GREY))
    placed = tf.ensure_shape(placed, [*scaled.shape[:-3], height, width, 3])
    by_axis = tf.reverse(inner / size, [0])  # x, y
    return placed, tf.tile(by_axis, [2]), tf.tile(tf.reverse(size, [0]), [2])


def suppress_in_graph(
    boxes_xyxy: Any, scores: Any, score_threshold: Any, iou_threshold: Any, rows: int
) -> Any:
    """Does what `nms.select` does for a batch, in a TensorFlow graph.

    Args:
        boxes_xyxy: float32 [N, P, 4].
        scores: float32 [N, P, C].
        score_threshold: float32 [].
        iou_threshold: float32 [].
        rows: detections of each image.

    Returns:
        `tf.image.combined_non_max_suppression`'s tuple of `rows` rows, those after the last
        detection zero.
    """
    import tensorflow as tf

    class_ids = tf.argmax(scores, axis=2)
    own_class = tf.one_hot(class_ids, scores.shape[2], on_value=True, off_value=False)
    return tf.image.combined_non_max_suppression(
        boxes_xyxy[:, :, None],  # corners may come in either order, x or y first
        tf.where(own_class, scores, 0.0),
        max_output_size_per_class=rows,
        max_total_size=rows,
        iou_threshold=iou_threshold,
        score_threshold=score_threshold,
        clip_boxes=False,
    )
