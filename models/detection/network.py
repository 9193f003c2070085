"""The network: backbone, feature pyramid, and a head of three grids.

Letters: N images, P predictions (cells of all levels times predictors a cell), C classes.
"""

import math

import keras
import numpy as np
from keras import KerasTensor, layers, ops

from models.common.backbone import build_backbone, conv_norm
from models.detection.config import STRIDES, DetectionConfig, NetworkConfig

# Chance of an object that an untrained cell reports; Lin et al. 2017, "Focal Loss", section 3.3.
PRIOR = 0.01
# Sides of an untrained anchor-free box, in strides of its level.
UNTRAINED_SIDE = 5.0
# exp(6) strides are wider than any image here; keeps an early, wild prediction finite.
MAX_LOG_SIDE = 6.0


def build_network(config: DetectionConfig) -> keras.Model:
    """Builds the network.

    Returns:
        A model from image [N, height, width, 3], RGB, 0 to 255, to `predictions` float32
        [N, P, 5 + C]: four box numbers (see `Decoder`), objectness logit, class logits. Levels
        follow each other finest first, cells row by row, predictors within a cell.
    """
    image = keras.Input((config.height, config.width, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="rescale")(image)
    x = fold_pixels(x, config.network.fold)
    features = build_backbone(config.network.backbone, x)
    by_stride = dict(zip(config.network.strides, features, strict=True))
    levels = build_pyramid(config.network, [by_stride[stride] for stride in STRIDES])
    predictions = [
        build_head(config.network, level, len(config.labels), name=f"head{stride}")
        for stride, level in zip(STRIDES, levels, strict=True)
    ]
    joined = layers.Concatenate(axis=1, name="predictions", dtype="float32")(predictions)
    return keras.Model(image, {"predictions": joined}, name="detection")


def fold_pixels(x: KerasTensor, side: int) -> KerasTensor:
    """Makes channels of blocks of pixels: [N, H, W, C] -> [N, H/side, W/side, side^2 C]."""
    if side == 1:
        return x
    height, width, channels = x.shape[1] // side, x.shape[2] // side, x.shape[3]
    x = layers.Reshape((height, side, width, side, channels), name="fold_split")(x)
    x = layers.Permute((1, 3, 2, 4, 5), name="fold_order")(x)  # (N, H/s, W/s, s, s, C)
    return layers.Reshape((height, width, side**2 * channels), name="fold")(x)


def build_pyramid(config: NetworkConfig, features: list[KerasTensor]) -> list[KerasTensor]:
    """Mixes the levels: coarse meaning goes down to the fine ones, fine detail back up.

    Args:
        config: gives the channels.
        features: float [N, H/s, W/s, C_s] for each stride s, finest first.

    Returns:
        float [N, H/s, W/s, neck_filters] for each stride, finest first.

    Source: Lin et al. 2017, "Feature Pyramid Networks"; Liu et al. 2018, "Path Aggregation
    Network", figure 1 (a, b), with concatenation in place of sums.
    """
    backbone, filters = config.backbone, config.neck_filters
    lateral = [
        conv_norm(backbone, feature, filters, 1, name=f"lateral{stride}")
        for stride, feature in zip(STRIDES, features, strict=True)
    ]
    down = [lateral[-1]]
    for level in reversed(range(len(STRIDES) - 1)):
        x = layers.UpSampling2D(name=f"enlarge{STRIDES[level]}")(down[0])
        x = layers.Concatenate(name=f"down{STRIDES[level]}_join")([lateral[level], x])
        down.insert(0, conv_norm(backbone, x, filters, 3, name=f"down{STRIDES[level]}"))
    up = [down[0]]
    for level in range(1, len(STRIDES)):
        name = f"up{STRIDES[level]}"
        x = conv_norm(backbone, up[-1], filters, 3, 2, name=f"{name}_shrink")
        x = layers.Concatenate(name=f"{name}_join")([down[level], x])
        up.append(conv_norm(backbone, x, filters, 3, name=name))
    return up


def build_head(config: NetworkConfig, x: KerasTensor, classes: int, *, name: str) -> KerasTensor:
    """Predicts boxes and objectness in one branch, classes in another.

    Returns:
        float32 [N, cells * predictors, 5 + classes].

    Source: Ge et al. 2021, "YOLOX", section 2.1 (decoupled head).
    """
    where, what = x, x
    for number in range(config.head_convolutions):
        where = conv_norm(
            config.backbone, where, config.neck_filters, 3, name=f"{name}_where{number}"
        )
        what = conv_norm(config.backbone, what, config.neck_filters, 3, name=f"{name}_what{number}")
    # The output stays float32: boxes and losses need the digits.
    outputs = [
        layers.Conv2D(
            config.predictors * channels,
            1,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            bias_initializer=keras.initializers.Constant(bias),
            dtype="float32",
            name=f"{name}_{part}",
        )(branch)
        for part, branch, channels, bias in (
            ("box", where, 4, 0.0),
            ("objectness", where, 1, math.log(PRIOR / (1 - PRIOR))),
            ("class", what, classes, 0.0),
        )
    ]
    rows = x.shape[1] * x.shape[2] * config.predictors
    flat = [
        layers.Reshape((rows, -1), dtype="float32", name=f"{name}_{part}_rows")(output)
        for part, output in zip(("box", "objectness", "class"), outputs, strict=True)
    ]
    return layers.Concatenate(dtype="float32", name=f"{name}_rows")(flat)  # (N, rows, 5 + C)


class Decoder:
    """Turns raw predictions into boxes and scores.

    An anchor-free cell predicts the distances of the four sides from its centre, in strides:
    exp(raw) * UNTRAINED_SIDE / 2 (Tian et al. 2019, "FCOS", equation 1 and section 3.2). A cell
    with anchors predicts centre and size: centre + (2 sigmoid(raw) - 1) strides, and
    anchor * (2 sigmoid(raw))^2 (Bochkovskiy et al. 2020, "YOLOv4", section 3.4; Redmon and
    Farhadi 2018, "YOLOv3", section 2.1).

    Attributes:
        centers: float32 [P, 2], x and y of each prediction's cell, in pixels.
        strides: float32 [P, 1].
        anchors: float32 [P, 2], width and height, or None for an anchor-free head.
    """

    def __init__(self, config: DetectionConfig) -> None:
        network = config.network
        centers, strides = [], []
        for stride in STRIDES:
            ys, xs = np.mgrid[0 : config.height : stride, 0 : config.width : stride]
            cells = np.stack([xs.ravel(), ys.ravel()], axis=1) + stride / 2  # (cells, 2)
            centers.append(np.repeat(cells, network.predictors, axis=0))
            strides.append(np.full((len(centers[-1]), 1), stride))
        self.centers = np.concatenate(centers).astype(np.float32)
        self.strides = np.concatenate(strides).astype(np.float32)
        self.anchors = _anchors_by_row(network, strides) if network.anchors else None

    def boxes(self, predictions: KerasTensor) -> KerasTensor:
        """Returns boxes_xyxy float32 [N, P, 4] in pixels of the network's image, not clipped."""
        raw = predictions[..., :4]
        if self.anchors is None:
            sides = ops.exp(ops.minimum(raw, MAX_LOG_SIDE)) * (UNTRAINED_SIDE / 2 * self.strides)
            top_left, bottom_right = self.centers - sides[..., :2], self.centers + sides[..., 2:]
        else:
            unit = 2 * ops.sigmoid(raw)
            middle = self.centers + (unit[..., :2] - 1) * self.strides
            half = unit[..., 2:] ** 2 * (self.anchors / 2)
            top_left, bottom_right = middle - half, middle + half
        return ops.concatenate([top_left, bottom_right], axis=-1)

    @staticmethod
    def scores(predictions: KerasTensor) -> KerasTensor:
        """Returns float32 [N, P, C]: chance of an object times chance of the class."""
        return ops.sigmoid(predictions[..., 4:5]) * ops.sigmoid(predictions[..., 5:])


def _anchors_by_row(network: NetworkConfig, strides: list[np.ndarray]) -> np.ndarray:
    by_level = np.reshape(network.anchors, (len(STRIDES), network.predictors, 2))
    rows = [
        np.tile(anchors, (len(level) // network.predictors, 1))
        for anchors, level in zip(by_level, strides, strict=True)
    ]
    return np.concatenate(rows).astype(np.float32)
