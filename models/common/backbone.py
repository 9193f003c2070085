"""Convolutional backbones of the vision models: residual and inverted residual stages."""

from dataclasses import dataclass

import keras
from keras import layers, regularizers

from models.common.config import ConfigError, require_choice, require_fraction, require_positive

BLOCKS = ("residual", "inverted")
ACTIVATIONS = ("relu", "relu6", "silu")
# Keras' default of 0.99 needs thousands of steps before inference matches training.
BATCH_NORM_MOMENTUM = 0.9


@dataclass(frozen=True)
class BackboneConfig:
    """Shape of a backbone.

    Attributes:
        block: `residual` (He et al. 2015) or `inverted` (MobileNetV2, Sandler et al. 2018).
        stem_filters: channels of the first convolution.
        stem_stride: 1 keeps the image's size, 2 halves it.
        filters: channels of each stage; every stage but the first halves the size.
        repeats: blocks in each stage.
        expansion: of inverted blocks, how many times wider their middle is.
        activation: `relu`, `relu6` or `silu`.
        l2: weight of the squared kernels in the loss.
    """

    block: str = "residual"
    stem_filters: int = 16
    stem_stride: int = 2
    filters: tuple[int, ...] = (16, 32, 64, 128)
    repeats: tuple[int, ...] = (1, 1, 1, 1)
    expansion: int = 4
    activation: str = "relu"
    l2: float = 1e-5

    def __post_init__(self) -> None:
        require_choice(self, "block", BLOCKS)
        require_choice(self, "activation", ACTIVATIONS)
        require_positive(self, "stem_filters", "expansion")
        require_fraction(self, "l2")
        if self.stem_stride not in (1, 2):
            raise ConfigError(f"BackboneConfig.stem_stride must be 1 or 2, got {self.stem_stride}")
        if not self.filters or len(self.filters) != len(self.repeats):
            raise ConfigError(
                "BackboneConfig.filters and .repeats must name the same stages, got "
                f"{self.filters} and {self.repeats}"
            )
        if min(self.filters) < 1 or min(self.repeats) < 1:
            raise ConfigError(
                "BackboneConfig.filters and .repeats must be at least 1, got "
                f"{self.filters} and {self.repeats}"
            )

    @property
    def strides(self) -> tuple[int, ...]:
        """How many pixels of the image each stage's output steps over."""
        return tuple(self.stem_stride * 2**stage for stage in range(len(self.filters)))


def build_backbone(config: BackboneConfig, image: keras.KerasTensor) -> list[keras.KerasTensor]:
    """Puts a backbone on an image.

    Args:
        config: its shape.
        image: float [N, H, W, C], already scaled as the network likes it.

    Returns:
        The output of each stage, finest first: float [N, H/s, W/s, filters], where s is the
        stage's stride in `config.strides`, rounded up.
    """
    block = residual_block if config.block == "residual" else inverted_block
    x = conv_norm(config, image, config.stem_filters, 3, config.stem_stride, name="stem")
    features = []
    for stage, (filters, repeats) in enumerate(zip(config.filters, config.repeats, strict=True)):
        for number in range(repeats):
            stride = 2 if stage > 0 and number == 0 else 1
            x = block(config, x, filters, stride, name=f"stage{stage}_block{number}")
        features.append(x)
    return features


def conv_norm(
    config: BackboneConfig,
    x: keras.KerasTensor,
    filters: int,
    size: int,
    stride: int = 1,
    *,
    name: str,
    activate: bool = True,
) -> keras.KerasTensor:
    """Convolution, batch normalisation and, unless told otherwise, the activation.

    Args:
        config: gives the activation and the regularisation.
        x: float [N, H, W, C].
        filters: output channels.
        size: side of the kernel.
        stride: 2 halves the size, rounding up.
        name: prefix of the layers' names.
        activate: False leaves the activation out, as before a residual sum.
    """
    x = layers.Conv2D(
        filters,
        size,
        stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        kernel_regularizer=regularizers.L2(config.l2),
        name=f"{name}_conv",
    )(x)
    x = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=f"{name}_norm")(x)
    return _activation(config, x, f"{name}_act") if activate else x


def residual_block(
    config: BackboneConfig, x: keras.KerasTensor, filters: int, stride: int, *, name: str
) -> keras.KerasTensor:
    """Two 3x3 convolutions beside a shortcut.

    1. F(x) = norm(conv(act(norm(conv(x))))), the first convolution with the stride.
    2. Shortcut: x itself, or a 1x1 convolution of it where size or channels change.
    3. act(F(x) + shortcut): float [N, H/stride, W/stride, filters].

    Source: He et al. 2015, "Deep Residual Learning", figure 2 and section 3.3, option B.
    """
    y = conv_norm(config, x, filters, 3, stride, name=f"{name}_1")
    y = conv_norm(config, y, filters, 3, name=f"{name}_2", activate=False)
    if stride > 1 or x.shape[-1] != filters:
        x = conv_norm(config, x, filters, 1, stride, name=f"{name}_shortcut", activate=False)
    return _activation(config, layers.Add(name=f"{name}_add")([y, x]), f"{name}_act")


def inverted_block(
    config: BackboneConfig, x: keras.KerasTensor, filters: int, stride: int, *, name: str
) -> keras.KerasTensor:
    """Expands channels, filters each with a depthwise convolution, projects without activation.

    1. 1x1 convolution to `expansion` times the channels; 2. 3x3 depthwise with the stride;
    3. linear 1x1 projection; 4. plus x where size and channels are the same:
    float [N, H/stride, W/stride, filters].

    Source: Sandler et al. 2018, "MobileNetV2", table 1 and figure 4d.
    """
    y = conv_norm(config, x, config.expansion * x.shape[-1], 1, name=f"{name}_expand")
    y = layers.DepthwiseConv2D(
        3,
        stride,
        padding="same",
        use_bias=False,
        depthwise_initializer="he_normal",
        name=f"{name}_depthwise_conv",
    )(y)
    y = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=f"{name}_depthwise_norm")(y)
    y = _activation(config, y, f"{name}_depthwise_act")
    y = conv_norm(config, y, filters, 1, name=f"{name}_project", activate=False)
    if stride == 1 and x.shape[-1] == filters:
        return layers.Add(name=f"{name}_add")([x, y])
    return y


def _activation(config: BackboneConfig, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return layers.Activation(config.activation, name=name)(x)
