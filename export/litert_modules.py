"""What LiteRT runs: the signature `tensors` of each task, for one row, in its builtin operators.

They compute what `make_module` of the task does. Three things differ, for LiteRT has no operator
for them: images are resized line by line, boxes are suppressed in one call for all classes, and a
recurrent layer is a loop over the words of one text. Strings stay outside.

One row, because sizes inside the graph then hang on the image alone, and the network's part of it
keeps fixed sizes, which LiteRT's fast kernels need.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from export.formats import FormatError
from models.detection.letterbox import GREY
from models.detection.network import Decoder
from models.detection.signature import NO_DETECTION, DetectionModel
from models.face.augmentation import thousandths
from models.face.network import EMBEDDING, UnitLength
from models.face.signature import FaceModel
from models.segmentation.signature import SegmentationModel, most_probable
from models.sentiment.network import PADDING_ID
from models.sentiment.signature import SentimentModel
from protocol.contracts import TENSORS

Function = Callable[..., dict[str, tf.Tensor]]
# Further apart than any two boxes of one class: those of different classes never overlap.
_APART = 1e4


class SignatureModule(tf.Module):  # type: ignore[misc]  # TensorFlow is untyped
    """Holds one function, and the networks whose weights it reads.

    Args:
        name: of the function.
        function: returns tensors by name.
        inputs: what it takes.
        networks: what it calls.
    """

    def __init__(
        self, name: str, function: Function, inputs: list[tf.TensorSpec], *networks: Any
    ) -> None:
        super().__init__()
        self.signature = name
        self.networks = networks
        setattr(self, name, tf.function(function, inputs, autograph=False))


def face_module(model: FaceModel) -> tf.Module:
    """`image` uint8 [1, H, W, 3] -> `embedding` float32 [1, 128], `threshold` float32 [1, 2]."""
    config = model.config.network
    size, threshold = config.image_size, tf.constant(model.threshold_row[None])

    def tensors(image: tf.Tensor) -> dict[str, tf.Tensor]:
        sides = tf.shape(image)[1:3]
        shorter = tf.reduce_min(sides)
        side = tf.maximum(1, (shorter * thousandths(config.central) + 500) // 1000)
        start = (sides - side) // 2
        square = image[0, start[0] : start[0] + side, start[1] : start[1] + side]
        inner = tf.constant([size, size], tf.float32)
        placed = resize(square, inner, size, size)
        if config.flip_average:
            placed = tf.concat([placed, placed[:, :, ::-1]], axis=0)
        embedding = model.network(placed, training=False)[EMBEDDING]
        if config.flip_average:
            embedding = UnitLength()(embedding[:1] + embedding[1:])
        return {"embedding": embedding, "threshold": threshold}

    return SignatureModule(TENSORS, tensors, [_image()], model.network)


def detection_module(model: DetectionModel) -> tf.Module:
    """`image` uint8 [1, H, W, 3] and the thresholds -> detections, all but their labels."""
    config, decoder = model.config, Decoder(model.config)
    frame = tf.constant([config.height, config.width], tf.float32)

    def tensors(
        image: tf.Tensor, score_threshold: tf.Tensor, iou_threshold: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        size = tf.cast(tf.shape(image)[1:3], tf.float32)
        inner = tf.floor(size * tf.reduce_min(frame / size) + 0.5)
        inner = tf.clip_by_value(inner, 1.0, frame)
        scaled = resize(image[0], inner, config.height, config.width)
        placed = scaled + GREY * (1.0 - _inside(inner, config.height, config.width))
        raw = model.network(placed, training=False)["predictions"]
        boxes, scores = decoder.boxes(raw)[0], decoder.scores(raw)[0]  # (P, 4), (P, C)
        class_ids = tf.argmax(scores, axis=1, output_type=tf.int32)
        chosen, best, count = tf.raw_ops.NonMaxSuppressionV5(
            boxes=boxes + _APART * tf.cast(class_ids, tf.float32)[:, None],
            scores=tf.reduce_max(scores, axis=1),
            max_output_size=config.max_detections,
            iou_threshold=tf.clip_by_value(iou_threshold, 0.0, 1.0),
            score_threshold=tf.clip_by_value(score_threshold, 0.0, 1.0),
            soft_nms_sigma=0.0,
            pad_to_max_output_size=True,
        )
        present = tf.range(config.max_detections) < count
        by_axis, limits = tf.reverse(inner / size, [0]), tf.reverse(size, [0])  # x, y
        original = tf.gather(boxes, chosen) / tf.concat([by_axis, by_axis], 0)
        original = tf.minimum(tf.maximum(original, 0.0), tf.concat([limits, limits], 0))
        return {
            "boxes_xyxy": tf.where(present[:, None], original, 0.0)[None],
            "scores": tf.where(present, best, 0.0)[None],
            "class_ids": tf.where(present, tf.gather(class_ids, chosen), NO_DETECTION)[None],
            "num_detections": count[None],
        }

    thresholds = [tf.TensorSpec([], tf.float32, name=name) for name in model.defaults]
    return SignatureModule(TENSORS, tensors, [_image(), *thresholds], model.network)


def segmentation_module(model: SegmentationModel) -> tf.Module:
    """`image` uint8 [1, H, W, 3] -> `mask` uint8, `probability` float32 [1, H, W, C]."""

    def tensors(image: tf.Tensor) -> dict[str, tf.Tensor]:
        probability = tf.nn.softmax(model.network(image, training=False)["logits"])
        return {"mask": most_probable(probability), "probability": probability}

    return SignatureModule(TENSORS, tensors, [_image()], model.network)


def sentiment_module(model: SentimentModel) -> tf.Module:
    """`token_ids` int32 [1, T], 0 is padding -> `probability` float32 [1, C]."""
    network = model.network
    recurrent = network.recurrent
    forward, backward = (
        LstmWeights.of(recurrent.forward_layer),
        LstmWeights.of(recurrent.backward_layer),
    )

    def tensors(token_ids: tf.Tensor) -> dict[str, tf.Tensor]:
        words = tf.reduce_sum(tf.cast(token_ids != PADDING_ID, tf.int32))
        read = token_ids[:, : tf.maximum(words, 1)]  # a text without words keeps one padding
        vectors = network.embed(read, training=False)[0]  # (T, E)
        ahead = read_in_turn(forward, vectors)
        back = tf.reverse(read_in_turn(backward, tf.reverse(vectors, [0])), [0])
        states = tf.concat([ahead, back], axis=1)[None]  # (1, T, 2U)
        logits = network.classify([read, states], training=False)["logits"]
        return {"probability": tf.nn.softmax(logits)}

    ids = tf.TensorSpec([1, None], tf.int32, name="token_ids")
    return SignatureModule(TENSORS, tensors, [ids], network.model)


def resize(image: tf.Tensor, inner: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Scales an image with a filter that widens as it shrinks, as `tf.image.resize` does.

    Args:
        image: uint8 [H, W, 3].
        inner: height and width of the scaled image, float32 [2].
        height: of the result; rows beyond `inner` are zero.
        width: likewise.

    Returns:
        float32 [1, height, width, 3].
    """
    rows, columns = tf.shape(image)[0], tf.shape(image)[1]
    lines = tf.reshape(image, [rows, columns * 3])
    scaled = tf.reshape(scale_lines(lines, inner[0], height), [height, columns, 3])
    across = tf.reshape(tf.transpose(scaled, [1, 0, 2]), [columns, height * 3])
    both = tf.reshape(scale_lines(across, inner[1], width), [width, height, 3])
    return tf.reshape(tf.transpose(both, [1, 0, 2]), [1, height, width, 3])


def scale_lines(lines: tf.Tensor, inner: tf.Tensor, count: int) -> tf.Tensor:
    """Makes an image of more or fewer lines: means of near ones, weighted by a triangle.

    Args:
        lines: uint8 or float32 [L, K].
        inner: lines of the scaled image, float32 []; those beyond it are zero.
        count: how many to return.

    Returns:
        float32 [count, K].
    """
    size = tf.shape(lines)[0]
    scale = tf.cast(size, tf.float32) / inner
    reach = tf.maximum(scale, 1.0)
    numbers = tf.range(count, dtype=tf.float32)
    middle = (numbers + 0.5) * scale  # of each line, in the original
    first = tf.cast(tf.math.ceil(middle - reach - 0.5), tf.int32)
    taps = 2 * tf.cast(tf.math.ceil(reach), tf.int32) + 1

    def weighted(tap: Any) -> tuple[Any, Any]:
        at = first + tap
        weight = tf.nn.relu(1.0 - tf.abs(tf.cast(at, tf.float32) + 0.5 - middle) / reach)
        weight *= tf.cast((at >= 0) & (at < size), tf.float32)
        near = tf.gather(lines, tf.clip_by_value(at, 0, size - 1))
        return weight[:, None] * tf.cast(near, tf.float32), weight

    def add_one(tap: Any, total: Any, weights: Any) -> Any:
        more, weight = weighted(tap)
        return tap + 1, total + more, weights + weight

    _, total, weights = tf.while_loop(
        lambda tap, *_: tap < taps, add_one, (tf.constant(1), *weighted(0))
    )
    share = tf.cast(numbers < inner, tf.float32) / tf.maximum(weights, 1e-6)
    return total * share[:, None]


class LstmWeights(NamedTuple):
    """Weights of one LSTM layer, its gates in Keras' order: input, forget, cell, output.

    Attributes:
        kernel: float32 [E, 4U].
        recurrence: float32 [U, 4U].
        bias: float32 [4U].
    """

    kernel: np.ndarray
    recurrence: np.ndarray
    bias: np.ndarray

    @classmethod
    def of(cls, layer: keras.layers.Layer) -> "LstmWeights":
        """Reads them from a built layer.

        Raises:
            FormatError: it is no LSTM layer.
        """
        if not isinstance(layer, keras.layers.LSTM):
            raise FormatError(f"a {type(layer).__name__} has no LiteRT form here, only an LSTM")
        return cls(*(np.asarray(weight, np.float32) for weight in layer.get_weights()))


def read_in_turn(weights: LstmWeights, vectors: tf.Tensor) -> tf.Tensor:
    """Runs an LSTM layer over one text.

    Args:
        weights: of the layer.
        vectors: float32 [T, E].

    Returns:
        The states, float32 [T, U].
    """
    units, steps = weights.recurrence.shape[0], tf.shape(vectors)[0]
    inputs = tf.matmul(vectors, weights.kernel) + weights.bias  # (T, 4U)

    def step(time: Any, state: Any, cell: Any, states: Any) -> Any:
        gates = tf.gather(inputs, [time]) + tf.matmul(state, weights.recurrence)
        enter, forget, new, leave = tf.split(gates, 4, axis=1)
        cell = tf.sigmoid(forget) * cell + tf.sigmoid(enter) * tf.tanh(new)
        state = tf.sigmoid(leave) * tf.tanh(cell)
        return time + 1, state, cell, states.write(time, state[0])

    states = tf.TensorArray(tf.float32, steps, element_shape=[units])
    zeros = tf.zeros([1, units])
    *_, states = tf.while_loop(
        lambda time, *_: time < steps, step, (tf.constant(0), zeros, zeros, states)
    )
    return states.stack()


def _inside(inner: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Tells the image from what is beside it: 1 and 0, float32 [1, height, width, 1]."""
    rows = tf.cast(tf.range(height, dtype=tf.float32) < inner[0], tf.float32)
    columns = tf.cast(tf.range(width, dtype=tf.float32) < inner[1], tf.float32)
    return (rows[:, None] * columns[None])[None, ..., None]


def _image() -> tf.TensorSpec:
    return tf.TensorSpec([1, None, None, 3], tf.uint8, name="image")
