"""The U-Net: an encoder, a decoder with skip connections, logits at the image's own size."""

from typing import Any

import keras
from keras import layers, ops

from models.common.backbone import build_backbone, conv_norm
from models.segmentation.config import NetworkConfig

PACKAGE = "keras_model_service.segmentation"
# log(1 + x / LOG_SCALE) is steep below this share of full brightness and flat above.
LOG_SCALE = 0.02


def build_network(config: NetworkConfig, classes: int) -> keras.Model:
    """Builds the network for images of any size.

    1. Mirror the image to a multiple of `config.size_multiple`; scale its intensities.
    2. Encoder: features at falling resolutions, finest first.
    3. Decoder: enlarge the coarser features twice, join the finer ones, convolve; repeat.
    4. A 1x1 convolution to the classes; enlarged where the stem halved the image; cropped.

    Args:
        config: its shape.
        classes: number of classes, C.

    Returns:
        A model from `image`, uint8 [N, H, W, 3], to `logits`, float32 [N, H, W, C].

    Source: Ronneberger et al. 2015, "U-Net", figure 1; with padded convolutions and batch
        normalisation.
    """
    image = keras.Input((None, None, 3), dtype="uint8", name="image")
    x = MirrorPad(config.size_multiple, name="pad")(image)
    x = ScaleIntensity(config.intensity, name="intensity")(x)
    features = _encode(config, x)
    if config.dropout:
        features[-1] = layers.Dropout(config.dropout, name="dropout")(features[-1])
    x = _decode(config, features)
    x = layers.Conv2D(classes, 1, dtype="float32", name="classify")(x)
    if config.stem_stride > 1:
        x = Enlarge(config.stem_stride, dtype="float32", name="enlarge")(x)
    logits = CropTo(name="logits", dtype="float32")([x, image])
    return keras.Model(image, {"logits": logits}, name="unet")


def mirrored(network: keras.Model) -> keras.Model:
    """Makes a network's answers the mean of those for an image and its three mirror images.

    Steadier, and four times the work. For inference: nothing is added that could learn.

    Args:
        network: what `build_network` returned.

    Returns:
        A model with the same weights, inputs and outputs.
    """
    image = keras.Input((None, None, 3), dtype="uint8", name="image")
    logits = network(MirrorImages(name="mirror_images")(image))["logits"]
    logits = MeanOfMirrorImages(name="logits", dtype="float32")(logits)
    return keras.Model(image, {"logits": logits}, name="mirrored_unet")


def _encode(config: NetworkConfig, x: keras.KerasTensor) -> list[keras.KerasTensor]:
    """Returns float [N, H/s, W/s, filters] for each level, finest first."""
    if config.encoder != "double_conv":
        return build_backbone(config.backbone, x)
    features = []
    for level, filters in enumerate(config.filters):
        if level:
            x = layers.MaxPooling2D(2, name=f"down{level}_pool")(x)
        x = _convolve(config, x, filters, 2, f"down{level}")
        features.append(x)
    return features


def _decode(config: NetworkConfig, features: list[keras.KerasTensor]) -> keras.KerasTensor:
    """Joins the features from the coarsest to the finest: float [N, H/s, W/s, filters]."""
    *skips, x = features
    widths = config.decoder_filters or config.filters[:-1]
    for level in reversed(range(len(skips))):
        x = layers.Conv2DTranspose(
            widths[level], 2, 2, kernel_initializer="he_normal", name=f"up{level}_enlarge"
        )(x)
        x = layers.Concatenate(name=f"up{level}_join")([skips[level], x])
        x = _convolve(config, x, widths[level], config.decoder_convs, f"up{level}")
    return x


def _convolve(
    config: NetworkConfig, x: keras.KerasTensor, filters: int, count: int, name: str
) -> keras.KerasTensor:
    for number in range(1, count + 1):
        x = conv_norm(config.backbone, x, filters, 3, name=f"{name}_{number}")
    return x


@keras.saving.register_keras_serializable(PACKAGE)
class MirrorPad(layers.Layer):
    """Extends an image below and to the right, mirrored about its last row and column.

    The image may be smaller than what is added: it is then mirrored again and again.

    Args:
        multiple: both sides become multiples of this.

    Call arguments:
        image: uint8 [N, H, W, C].

    Output:
        uint8 [N, ceil(H / m) m, ceil(W / m) m, C].
    """

    def __init__(self, multiple: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.multiple = multiple

    def call(self, image: keras.KerasTensor) -> keras.KerasTensor:
        """Pads the rows, then the columns."""
        for axis in (1, 2):
            size = ops.shape(image)[axis]
            if isinstance(size, int) and size % self.multiple == 0:
                continue
            padded = (size + self.multiple - 1) // self.multiple * self.multiple
            image = ops.take(image, _mirrored(ops.arange(padded), size), axis=axis)
        return image

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Rounds height and width up."""
        rows, height, width, channels = input_shape
        return (rows, self._rounded_up(height), self._rounded_up(width), channels)

    def compute_output_spec(self, image: keras.KerasTensor) -> keras.KerasTensor:
        """Keeps the dtype."""
        return keras.KerasTensor(self.compute_output_shape(image.shape), dtype=image.dtype)

    def _rounded_up(self, size: int | None) -> int | None:
        return None if size is None else -(-size // self.multiple) * self.multiple

    def get_config(self) -> dict[str, Any]:
        """Returns what rebuilds the layer."""
        return {**super().get_config(), "multiple": self.multiple}


def _mirrored(positions: Any, size: Any) -> Any:
    """Folds positions 0, 1, 2, ... into 0 ... size-1 and back, without repeating the ends."""
    period = ops.maximum(2 * (size - 1), 1)
    folded = positions % period
    return ops.minimum(folded, period - folded)


@keras.saving.register_keras_serializable(PACKAGE)
class ScaleIntensity(layers.Layer):
    """Maps uint8 intensities to about -1 ... 1, each pixel by itself.

    Args:
        intensity: `linear`, or `log` for as many channels again with
            2 log(1 + x / s) / log(1 + 1 / s) - 1, which tells dark values apart.

    Call arguments:
        image: uint8 [N, H, W, C].

    Output:
        float [N, H, W, C], or [N, H, W, 2C] with `log`.
    """

    def __init__(self, intensity: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.intensity = intensity

    def call(self, image: keras.KerasTensor) -> keras.KerasTensor:
        """Computes in float32, returns the layer's own precision."""
        share = ops.cast(image, "float32") / 255.0
        scaled = 2.0 * share - 1.0
        if self.intensity == "log":
            steepest = ops.log(1.0 + 1.0 / LOG_SCALE)
            stretched = 2.0 * ops.log(1.0 + share / LOG_SCALE) / steepest - 1.0
            scaled = ops.concatenate([scaled, stretched], axis=-1)
        return ops.cast(scaled, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Doubles the channels with `log`."""
        *outer, channels = input_shape
        if channels is None:
            return tuple(input_shape)
        return (*outer, 2 * channels if self.intensity == "log" else channels)

    def compute_output_spec(self, image: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the layer's own precision, whatever comes in."""
        return keras.KerasTensor(self.compute_output_shape(image.shape), dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns what rebuilds the layer."""
        return {**super().get_config(), "intensity": self.intensity}


@keras.saving.register_keras_serializable(PACKAGE)
class Enlarge(layers.Layer):
    """Enlarges features by a whole factor, bilinearly, whatever their size.

    The same as `keras.layers.UpSampling2D`, which cannot do it where a size is known only when
    the graph runs.

    Args:
        factor: how many times larger both sides become.

    Call arguments:
        features: float [N, H, W, C].

    Output:
        float [N, factor H, factor W, C].
    """

    def __init__(self, factor: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.factor = factor

    def call(self, features: keras.KerasTensor) -> keras.KerasTensor:
        """Resizes with half-pixel centres, the rows, then the columns."""
        for axis, spread in ((1, (-1, 1, 1)), (2, (-1, 1))):
            size = ops.shape(features)[axis]
            place = (ops.cast(ops.arange(size * self.factor), "float32") + 0.5) / self.factor - 0.5
            below = ops.floor(place)
            share = ops.reshape(place - below, spread)  # (H, 1, 1) or (W, 1)
            first = ops.cast(below, "int32")
            lower = ops.take(features, ops.maximum(first, 0), axis=axis)
            upper = ops.take(features, ops.minimum(first + 1, size - 1), axis=axis)
            features = lower + (upper - lower) * share
        return features

    def compute_output_spec(self, features: keras.KerasTensor) -> keras.KerasTensor:
        """Multiplies the sides that are known."""
        rows, height, width, channels = features.shape
        sides = [None if side is None else side * self.factor for side in (height, width)]
        return keras.KerasTensor((rows, *sides, channels), dtype=features.dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns what rebuilds the layer."""
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable(PACKAGE)
class CropTo(layers.Layer):
    """Crops features to the size of an image, from its top left corner.

    Call arguments:
        inputs: features float [N, H', W', C] and the image [N, H, W, ...], H <= H', W <= W'.

    Output:
        float [N, H, W, C].
    """

    def call(self, inputs: list[keras.KerasTensor]) -> keras.KerasTensor:
        """Cuts rows and columns off."""
        features, image = inputs
        _, height, width, *_ = ops.shape(image)
        return features[:, :height, :width, :]

    def compute_output_spec(self, inputs: list[keras.KerasTensor]) -> keras.KerasTensor:
        """Takes height and width from the image."""
        features, image = inputs
        rows, height, width, _ = image.shape
        return keras.KerasTensor((rows, height, width, features.shape[-1]), dtype=features.dtype)


def _mirror(x: Any) -> list[Any]:
    """Returns [N, H, W, C] as it is, upside down, left to right, and both; each undoes itself."""
    return [x, x[:, ::-1], x[:, :, ::-1], x[:, ::-1, ::-1]]


@keras.saving.register_keras_serializable(PACKAGE)
class MirrorImages(layers.Layer):
    """Puts the mirror images of a batch below it: uint8 [N, H, W, C] -> [4N, H, W, C]."""

    def call(self, image: keras.KerasTensor) -> keras.KerasTensor:
        """Mirrors in both directions."""
        return ops.concatenate(_mirror(image), axis=0)

    def compute_output_spec(self, image: keras.KerasTensor) -> keras.KerasTensor:
        """Keeps the dtype."""
        rows, *sizes = image.shape
        return keras.KerasTensor((None if rows is None else 4 * rows, *sizes), dtype=image.dtype)


@keras.saving.register_keras_serializable(PACKAGE)
class MeanOfMirrorImages(layers.Layer):
    """Undoes `MirrorImages` on what was predicted: float [4N, H, W, C] -> [N, H, W, C]."""

    def call(self, logits: keras.KerasTensor) -> keras.KerasTensor:
        """Mirrors each quarter back and averages."""
        rows, height, width, classes = ops.shape(logits)
        by_mirror = ops.reshape(logits, (4, rows // 4, height, width, classes))
        parts = [_mirror(by_mirror[number])[number] for number in range(4)]
        return sum(parts[1:], parts[0]) * 0.25

    def compute_output_spec(self, logits: keras.KerasTensor) -> keras.KerasTensor:
        """Has a quarter of the rows."""
        rows, *sizes = logits.shape
        return keras.KerasTensor((None if rows is None else rows // 4, *sizes), dtype=logits.dtype)
