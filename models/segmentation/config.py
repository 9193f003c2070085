"""Configuration of the segmentation model, and its presets."""

from dataclasses import dataclass, field, replace

from models.common.backbone import ACTIVATIONS, BackboneConfig
from models.common.config import ConfigError, require_choice, require_fraction, require_positive
from models.common.training import PRECISIONS, ScheduleConfig

ENCODERS = ("double_conv", "residual", "inverted")
INTENSITIES = ("linear", "log")
# What our masks say where nobody knows the class; such pixels count in no loss and no metric.
VOID = 255


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the U-Net.

    Attributes:
        encoder: `double_conv` (Ronneberger et al. 2015), `residual` or `inverted`, see
            `models.common.backbone`.
        filters: channels of each level, finest first; each level but the first halves the size.
        repeats: blocks in each level of a residual or inverted encoder.
        stem_stride: 2 halves the image before the first level (residual and inverted only); the
            logits are then enlarged twice at the end.
        decoder_filters: channels of each decoder level, finest first; empty: as the encoder.
        decoder_convs: 3x3 convolutions in each decoder level.
        intensity: `linear`, or `log`: three more input channels that stretch dark values.
        dropout: share of the coarsest features dropped in training.
    """

    encoder: str = "double_conv"
    filters: tuple[int, ...] = (16, 32, 64, 96, 128)
    repeats: tuple[int, ...] = (1, 1, 1, 1, 1)
    stem_stride: int = 1
    decoder_filters: tuple[int, ...] = ()
    decoder_convs: int = 2
    intensity: str = "linear"
    activation: str = "relu"
    dropout: float = 0.0
    l2: float = 1e-5

    def __post_init__(self) -> None:
        require_choice(self, "encoder", ENCODERS)
        require_choice(self, "intensity", INTENSITIES)
        require_choice(self, "activation", ACTIVATIONS)
        require_positive(self, "decoder_convs")
        require_fraction(self, "dropout", "l2")
        if len(self.filters) < 2:
            raise ConfigError(
                f"NetworkConfig.filters must name two or more levels, got {self.filters}"
            )
        if self.decoder_filters and len(self.decoder_filters) != len(self.filters) - 1:
            raise ConfigError(
                f"NetworkConfig.decoder_filters must be empty or name {len(self.filters) - 1} "
                f"levels, got {self.decoder_filters}"
            )
        if self.encoder == "double_conv" and self.stem_stride != 1:
            raise ConfigError("NetworkConfig.stem_stride must be 1 with encoder double_conv")
        _ = self.backbone  # checks filters, repeats and stem_stride

    @property
    def backbone(self) -> BackboneConfig:
        """The encoder as a backbone; its convolutions' settings hold for the decoder too."""
        block = "residual" if self.encoder == "double_conv" else self.encoder
        return BackboneConfig(
            block=block,
            stem_filters=self.filters[0],
            stem_stride=self.stem_stride,
            filters=self.filters,
            repeats=self.repeats,
            activation=self.activation,
            l2=self.l2,
        )

    @property
    def size_multiple(self) -> int:
        """Images are padded to multiples of this, so that every level divides evenly."""
        return self.backbone.strides[-1]


@dataclass(frozen=True)
class AugmentationConfig:
    """How training crops differ from the images they come from.

    Attributes:
        crop: side of the square crops, pixels; a multiple of the network's `size_multiple`.
        scale: smallest and largest factor by which a crop is enlarged.
        horizontal_flip: whether half of the crops are mirrored left to right.
        vertical_flip: whether half of the crops are mirrored top to bottom.
        rot90: whether crops are turned by 0, 90, 180 or 270 degrees.
        brightness: largest shift, as a share of the full range.
        contrast: contrast is multiplied by a factor between 1 / (1 + c) and 1 + c.
        gamma: likewise for the exponent of the intensities.
        saturation: likewise for the distance from grey.
        channel_gain: likewise for each colour channel by itself.
        grey: chance of losing all colour.
        negative: chance of becoming the negative, so that what glows on black is seen dark on
            white too.
    """

    crop: int = 128
    scale: tuple[float, float] = (0.8, 1.25)
    horizontal_flip: bool = True
    vertical_flip: bool = True
    rot90: bool = True
    brightness: float = 0.1
    contrast: float = 0.3
    gamma: float = 0.3
    saturation: float = 0.3
    channel_gain: float = 0.0
    grey: float = 0.0
    negative: float = 0.0

    def __post_init__(self) -> None:
        require_positive(self, "crop")
        require_fraction(self, "brightness", "grey", "negative")
        smallest, largest = self.scale
        if not 0 < smallest <= largest:
            raise ConfigError(
                f"AugmentationConfig.scale must be two rising factors above 0, got {self.scale}"
            )
        for name in ("contrast", "gamma", "saturation", "channel_gain"):
            if getattr(self, name) < 0:
                value = getattr(self, name)
                raise ConfigError(f"AugmentationConfig.{name} must be 0 or more, got {value}")


@dataclass(frozen=True)
class TrainingConfig:
    """How the network learns.

    Attributes:
        crops_per_image: crops drawn of each image in one epoch.
        schedule: of the learning rate.
        weight_decay: of AdamW (Loshchilov and Hutter 2019).
        clip_norm: the gradient's global norm is clipped to this.
        balance_looks: how much more often images of a rare look (grey or coloured, dark or
            bright) are drawn: (images of the commonest look / of this one) to this power.
        dice_weight: share of the dice loss; cross-entropy has the rest.
        class_weight_power: weight of class c is (median frequency / frequency of c) to this
            power: 0 weighs all alike, 1 is median frequency balancing (Eigen and Fergus 2015).
        ema: decay by step of the averaged weights that are scored and kept; 0 averages nothing.
        patience: epochs without a better dev score before training stops.
        dev_fraction: share held out by hash as dev where a folder has no dev split.
        precision: what layers compute in, see `models.common.training`.
        frozen: layers whose names begin with one of these keep the weights they start from.
    """

    epochs: int = 30
    batch_size: int = 16
    crops_per_image: int = 2
    schedule: ScheduleConfig = field(default_factory=lambda: ScheduleConfig(peak=2e-3))
    weight_decay: float = 1e-4
    clip_norm: float = 5.0
    balance_looks: float = 0.0
    dice_weight: float = 0.5
    class_weight_power: float = 0.0
    ema: float = 0.0
    patience: int = 10
    dev_fraction: float = 0.2
    precision: str = "auto"
    frozen: tuple[str, ...] = ()
    seed: int = 1

    def __post_init__(self) -> None:
        require_positive(self, "epochs", "batch_size", "crops_per_image", "clip_norm", "patience")
        require_choice(self, "precision", PRECISIONS)
        require_fraction(self, "weight_decay", "ema", "dev_fraction")
        for name in ("balance_looks", "dice_weight", "class_weight_power"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"TrainingConfig.{name} must lie in 0..1, got {value}")


@dataclass(frozen=True)
class TilingConfig:
    """How images that are too large for one run are cut.

    Attributes:
        tile: sides above this are cut into overlapping tiles of this many pixels.
        overlap: pixels that neighbours share, where their answers are blended.
    """

    tile: int = 1024
    overlap: int = 128

    def __post_init__(self) -> None:
        require_positive(self, "tile")
        if not 0 <= 2 * self.overlap <= self.tile:
            raise ConfigError(
                f"TilingConfig.overlap must lie in 0..{self.tile // 2}, got {self.overlap}"
            )


@dataclass(frozen=True)
class SegmentationConfig:
    """All that defines a segmentation model besides its data.

    Attributes:
        labels: names of the classes, by id.
        void_value: what the mask files say for void, or None where every pixel has a class.
        data: name of the shared data set that trains where no folder is given.
        mirrored: whether an answer is the mean of those for the image and its three mirror
            images, which is steadier and four times the work; not while training.
    """

    labels: tuple[str, ...] = ("background", "nucleus")
    void_value: int | None = None
    data: str = "seg_dsb2018"
    mirrored: bool = False
    network: NetworkConfig = field(default_factory=NetworkConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    tiling: TilingConfig = field(default_factory=TilingConfig)

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels) or not 2 <= len(self.labels) < VOID:
            raise ConfigError(
                f"SegmentationConfig.labels must be 2 to {VOID - 1} different names, "
                f"got {self.labels}"
            )
        if self.void_value is not None and not 0 <= self.void_value <= 255:
            raise ConfigError(
                "SegmentationConfig.void_value must be None or lie in 0..255, "
                f"got {self.void_value}"
            )
        if self.augmentation.crop % self.network.size_multiple:
            raise ConfigError(
                f"AugmentationConfig.crop must be a multiple of {self.network.size_multiple}, "
                f"got {self.augmentation.crop}"
            )


BASE = SegmentationConfig(
    mirrored=True,
    network=NetworkConfig(filters=(16, 32, 64, 128, 192), intensity="log"),
    augmentation=AugmentationConfig(crop=160, brightness=0.05, contrast=0.2, gamma=0.2),
    training=TrainingConfig(epochs=64, balance_looks=0.5, ema=0.99, patience=64),
)
"""Nuclei (seg_dsb2018): the shipped model. README.md has the command, the time and the result."""

TINY = SegmentationConfig(
    data="synthetic",
    network=NetworkConfig(filters=(8, 16, 16), repeats=(1, 1, 1), decoder_convs=1),
    augmentation=AugmentationConfig(crop=32),
    training=TrainingConfig(epochs=4, batch_size=8, schedule=ScheduleConfig(peak=1e-2)),
    tiling=TilingConfig(tile=64, overlap=16),
)
"""Seconds on a laptop: tests, and the demo where nothing is shipped."""

CAMVID = SegmentationConfig(
    labels=(
        "sky",
        "building",
        "pole",
        "road",
        "pavement",
        "tree",
        "sign",
        "fence",
        "car",
        "pedestrian",
        "bicyclist",
    ),
    void_value=11,
    data="seg_camvid",
    network=NetworkConfig(
        encoder="residual",
        filters=(16, 32, 64, 128, 160),
        repeats=(1, 1, 2, 2, 1),
        stem_stride=2,
        decoder_convs=1,
    ),
    augmentation=AugmentationConfig(
        crop=256, scale=(0.6, 1.6), vertical_flip=False, rot90=False, channel_gain=0.1
    ),
    training=TrainingConfig(
        epochs=100,
        batch_size=4,
        crops_per_image=1,
        schedule=ScheduleConfig(peak=1e-3),
        class_weight_power=0.5,
        ema=0.99,
        patience=100,
    ),
)
"""Street scenes of eleven classes and void (seg_camvid)."""

_VESSELS = SegmentationConfig(
    labels=("background", "vessel"),
    network=NetworkConfig(filters=(16, 32, 48, 64), repeats=(1, 1, 1, 1)),
    augmentation=AugmentationConfig(crop=128, scale=(0.8, 1.25), channel_gain=0.2),
    training=TrainingConfig(epochs=20, crops_per_image=64, schedule=ScheduleConfig(peak=3e-3)),
)

DRIVE = replace(_VESSELS, data="seg_drive")
"""Vessels of the retina, 565 x 584 pixels (seg_drive)."""

CHASEDB1 = replace(_VESSELS, data="seg_chasedb1")
"""Vessels of the retina, 999 x 960 pixels (seg_chasedb1)."""

PRESETS = {"base": BASE, "tiny": TINY, "camvid": CAMVID, "drive": DRIVE, "chasedb1": CHASEDB1}
