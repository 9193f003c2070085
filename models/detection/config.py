"""Configuration of the detector, and its presets."""

from dataclasses import dataclass, field

from models.common.backbone import BackboneConfig
from models.common.config import ConfigError, require_choice, require_fraction, require_positive
from models.common.training import PRECISIONS, ScheduleConfig

STRIDES = (8, 16, 32)
"""Pixels of the network's image between neighbouring cells of each level of the head."""


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the network.

    Attributes:
        fold: side of the pixel blocks folded into channels before the backbone; 2 spares the
            costly work at full width, 1 folds nothing.
        backbone: must have a stage of each stride 8, 16 and 32, times `fold`.
        neck_filters: channels of each level of the feature pyramid.
        head_convolutions: 3x3 convolutions in each of the head's two branches.
        anchors: widths and heights in pixels of the network's image, w1 h1 w2 h2 ..., smallest
            first, the same number for each level; empty for an anchor-free head.
    """

    fold: int = 2
    backbone: BackboneConfig = field(
        default_factory=lambda: BackboneConfig(
            stem_filters=32,
            filters=(32, 64, 96, 128),
            repeats=(1, 2, 2, 1),
            activation="silu",
        )
    )
    neck_filters: int = 48
    head_convolutions: int = 1
    anchors: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        require_positive(self, "fold", "neck_filters", "head_convolutions")
        missing = [stride for stride in STRIDES if stride not in self.strides]
        if missing:
            raise ConfigError(
                f"NetworkConfig.backbone needs stages of the strides {STRIDES}, got {self.strides}"
            )
        if len(self.anchors) % (2 * len(STRIDES)):
            raise ConfigError(
                "NetworkConfig.anchors must hold a width and a height for each of "
                f"{len(STRIDES)} levels, got {len(self.anchors)} numbers"
            )
        if any(not side > 0 for side in self.anchors):
            raise ConfigError(f"NetworkConfig.anchors must be above 0, got {self.anchors}")

    @property
    def strides(self) -> tuple[int, ...]:
        """How many pixels of the image each stage of the backbone steps over."""
        return tuple(self.fold * stride for stride in self.backbone.strides)

    @property
    def predictors(self) -> int:
        """Boxes predicted by each cell of the grid."""
        return max(1, len(self.anchors) // (2 * len(STRIDES)))


@dataclass(frozen=True)
class AugmentationConfig:
    """How training images are varied.

    Attributes:
        mosaic: chance that four images share the canvas.
        plain: chance that an image is only mirrored and letterboxed, as it will be seen in use.
        mosaic_scale: images of a mosaic are scaled by this on top.
        scale_min: smallest factor of an image's size.
        scale_max: largest factor.
        stretch: largest relative change of the aspect ratio.
        mirror_vertically: also upside down, for images without a natural "up".
        quarter_turns: also turned by 90 degrees, likewise.
        brightness: largest change of brightness and of contrast, relative.
        tint: largest change of each colour channel, relative.
        saturation: largest change of the saturation, relative.
        min_visible: share of a box that must stay in view for the box to be kept.
    """

    mosaic: float = 0.5
    plain: float = 0.2
    mosaic_scale: float = 0.8
    scale_min: float = 0.6
    scale_max: float = 1.5
    stretch: float = 0.15
    mirror_vertically: bool = True
    quarter_turns: bool = True
    brightness: float = 0.2
    tint: float = 0.08
    saturation: float = 0.3
    min_visible: float = 0.3

    def __post_init__(self) -> None:
        require_fraction(self, "stretch", "brightness", "tint", "saturation", "min_visible")
        require_positive(self, "mosaic_scale", "scale_min")
        if not (self.mosaic >= 0 and self.plain >= 0 and self.mosaic + self.plain <= 1):
            raise ConfigError(
                "AugmentationConfig.mosaic and .plain must be chances of at most 1 together, got "
                f"{self.mosaic} and {self.plain}"
            )
        if self.scale_max < self.scale_min:
            raise ConfigError(
                f"AugmentationConfig.scale_max must be at least scale_min {self.scale_min}, "
                f"got {self.scale_max}"
            )


@dataclass(frozen=True)
class AssignmentConfig:
    """Which predictions answer for which labelled box; see `targets.py`.

    Attributes:
        candidates: predictions assigned to one box.
        score_power: alpha, weight of the predicted score in the alignment.
        iou_power: beta, weight of the overlap in the alignment.
    """

    candidates: int = 10
    score_power: float = 0.5
    iou_power: float = 6.0

    def __post_init__(self) -> None:
        require_positive(self, "candidates", "score_power", "iou_power")


@dataclass(frozen=True)
class TrainingConfig:
    """How the network learns.

    Attributes:
        epochs: the dev part is measured after each.
        passes_per_epoch: how often an epoch shows every training image.
        closing_epochs: last epochs, with every image plain (see `AugmentationConfig.plain`).
        max_boxes: labelled boxes of an image (or mosaic) that the loss can hold; more are cut.
        schedule: of the learning rate.
        weight_decay: of AdamW.
        clip_norm: gradients are clipped to this L2 norm, all variables together.
        ema_momentum: of the averaged weights that are measured and saved; 0 averages nothing.
        patience: epochs without a better dev mAP50 before training stops.
        dev_fraction: share of the training images held out by hash where a folder has no dev list.
        precision: `auto` (mixed on a GPU), `float32`, `mixed_bfloat16` or `mixed_float16`.
        frozen: prefixes of layer names that do not learn, e.g. `stem`, `stage0`.
    """

    epochs: int = 40
    passes_per_epoch: int = 5
    closing_epochs: int = 0
    batch_size: int = 16
    max_boxes: int = 64
    schedule: ScheduleConfig = field(default_factory=lambda: ScheduleConfig(peak=2e-3))
    weight_decay: float = 1e-2
    clip_norm: float = 10.0
    ema_momentum: float = 0.995
    box_weight: float = 5.0
    objectness_weight: float = 1.0
    class_weight: float = 0.5
    patience: int = 25
    dev_fraction: float = 0.2
    precision: str = "auto"
    frozen: tuple[str, ...] = ()
    seed: int = 1

    def __post_init__(self) -> None:
        require_positive(self, "epochs", "passes_per_epoch", "batch_size", "max_boxes", "patience")
        require_positive(self, "clip_norm", "box_weight", "objectness_weight")
        require_fraction(self, "dev_fraction", "ema_momentum", "weight_decay")
        require_choice(self, "precision", PRECISIONS)
        if not 0 <= self.closing_epochs <= self.epochs:
            raise ConfigError(
                f"TrainingConfig.closing_epochs must lie in 0..{self.epochs}, "
                f"got {self.closing_epochs}"
            )


@dataclass(frozen=True)
class DetectionConfig:
    """All that defines a detector besides its data.

    Attributes:
        labels: names of the classes.
        height: of the image that the network sees; a multiple of 32. Images are letterboxed.
        width: likewise.
        max_detections: K, rows of every answer.
        score_threshold: detections at or below it are left out unless the caller says otherwise;
            a run's own is the one with the best F1 on its dev part.
        iou_threshold: of two boxes of one class that overlap more, the lower score is left out.
    """

    labels: tuple[str, ...] = ("RBC", "WBC", "Platelets")
    height: int = 224
    width: int = 288
    max_detections: int = 100
    score_threshold: float = 0.25
    iou_threshold: float = 0.5
    network: NetworkConfig = field(default_factory=NetworkConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    assignment: AssignmentConfig = field(default_factory=AssignmentConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        require_positive(self, "height", "width", "max_detections")
        require_fraction(self, "score_threshold", "iou_threshold")
        if not self.labels or len(set(self.labels)) != len(self.labels) or "" in self.labels:
            raise ConfigError(
                f"DetectionConfig.labels must be different, non-empty names, got {self.labels}"
            )
        if self.height % STRIDES[-1] or self.width % STRIDES[-1]:
            raise ConfigError(
                f"DetectionConfig.height and .width must be multiples of {STRIDES[-1]}, "
                f"got {self.height} and {self.width}"
            )
        cells = sum(self.height // s * (self.width // s) for s in STRIDES)
        if cells * self.network.predictors < self.max_detections:
            raise ConfigError(
                f"DetectionConfig.max_detections must be at most {cells * self.network.predictors},"
                f" what the grid predicts, got {self.max_detections}"
            )


BASE = DetectionConfig(training=TrainingConfig(precision="mixed_bfloat16"))
"""Blood cells, det_bccd: the shipped model. See README.md for the command, time and result."""

RACCOON = DetectionConfig(
    labels=("raccoon",),
    height=192,
    width=192,
    augmentation=AugmentationConfig(
        mosaic=0.35,
        plain=0.1,
        mosaic_scale=0.6,
        scale_min=0.5,
        scale_max=1.6,
        stretch=0.3,
        mirror_vertically=False,
        quarter_turns=False,
        brightness=0.35,
        tint=0.12,
        saturation=0.6,
    ),
    training=TrainingConfig(epochs=45, max_boxes=16, precision="mixed_bfloat16"),
)
"""Raccoons, det_raccoon: one class, few photographs."""

TINY = DetectionConfig(
    labels=("disc", "square"),
    height=64,
    width=64,
    max_detections=20,
    network=NetworkConfig(
        backbone=BackboneConfig(stem_filters=8, filters=(8, 16, 16, 16), repeats=(1, 1, 1, 1)),
        neck_filters=16,
    ),
    augmentation=AugmentationConfig(mosaic=0.2, plain=0.5),
    training=TrainingConfig(
        epochs=6,
        passes_per_epoch=5,
        closing_epochs=2,
        batch_size=16,
        max_boxes=16,
        schedule=ScheduleConfig(peak=1e-2),
        ema_momentum=0.0,
    ),
)
"""Seconds on a laptop, on drawn shapes: tests, and the demo where nothing is shipped."""

PRESETS = {"base": BASE, "tiny": TINY, "raccoon": RACCOON}
SHARED_DATASETS = {"base": "det_bccd", "raccoon": "det_raccoon"}
"""Preset -> folder under DATA_DIR that it was made for."""
