"""Configuration of the face recogniser, and its presets."""

from dataclasses import dataclass, field, replace

from models.common.backbone import BackboneConfig
from models.common.config import ConfigError, require_choice, require_fraction, require_positive
from models.common.training import PRECISIONS, ScheduleConfig

EMBEDDING_UNITS = 128
"""Length of an embedding; every client and gallery relies on it."""

FRONTS = ("pixels", "gradients")
HEADS = ("flatten", "average")
MININGS = ("semi_hard", "batch_hard")


@dataclass(frozen=True)
class GradientConfig:
    """How `gradients.OrientedGradients` describes a picture.

    Attributes:
        scales: blurs of the picture, standard deviations in pixels.
        bins: directions of edges.
        cell: step between cells, pixels.
    """

    scales: tuple[float, ...] = (0.8, 1.6)
    bins: int = 8
    cell: int = 5

    def __post_init__(self) -> None:
        require_positive(self, "bins", "cell")
        if not self.scales or min(self.scales) <= 0:
            raise ConfigError(f"GradientConfig.scales must be above 0, got {self.scales}")


@dataclass(frozen=True)
class DiscriminantConfig:
    """The half of the embedding that is fitted, not learned; see `discriminants`.

    Attributes:
        units: of the 128 numbers, how many; 0 leaves this half out.
        share: its weight in squared distances.
        components: principal components of the gradients from which discriminants are found.
        shrinkage: how much their covariance is smoothed.
        copies: moved copies of each training picture that are fitted too, besides the picture
            and its mirror image.
        strength: of the copies' moves, see `AugmentationConfig`.
    """

    units: int = 64
    share: float = 0.8
    components: int = 600
    shrinkage: float = 0.02
    copies: int = 2
    strength: float = 0.6

    def __post_init__(self) -> None:
        require_positive(self, "components", "shrinkage")
        require_fraction(self, "share")
        if not 0 <= self.units < EMBEDDING_UNITS:
            raise ConfigError(
                f"DiscriminantConfig.units must lie in 0..{EMBEDDING_UNITS - 1}, got {self.units}"
            )
        if min(self.copies, self.strength) < 0:
            raise ConfigError("DiscriminantConfig.copies and .strength must not be negative")


@dataclass(frozen=True)
class NetworkConfig:
    """From pixels to an embedding.

    Attributes:
        image_size: side of the square that the network sees, pixels.
        central: share of the picture's centred square that is kept, so that hair and background
            around a face stay out.
        front: what the backbone sees, `pixels` or `gradients`.
        gradients: the description of a picture by its edges, for the fitted half and for a
            backbone that sees it.
        backbone: of the learned half.
        head: what joins the backbone and the embedding: `flatten` keeps where a feature lies in
            the aligned face, `average` forgets it.
        dropout: share of the backbone's features dropped.
        discriminants: the fitted half.
        flip_average: whether an embedding is the mean of the picture's and its mirror image's;
            doubles the time.
    """

    image_size: int = 64
    central: float = 0.7
    front: str = "gradients"
    gradients: GradientConfig = field(default_factory=GradientConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    head: str = "flatten"
    dropout: float = 0.4
    discriminants: DiscriminantConfig = field(default_factory=DiscriminantConfig)
    flip_average: bool = True

    def __post_init__(self) -> None:
        require_choice(self, "front", FRONTS)
        require_choice(self, "head", HEADS)
        require_fraction(self, "dropout")
        if self.image_size < 16:
            raise ConfigError(
                f"NetworkConfig.image_size must be at least 16, got {self.image_size}"
            )
        if not 0 < self.central <= 1:
            raise ConfigError(f"NetworkConfig.central must lie in (0, 1], got {self.central}")


@dataclass(frozen=True)
class LossConfig:
    """What the network is trained on: the sum of two losses, either of which may be left out.

    Attributes:
        angular_weight: of the angular-margin softmax over the training identities.
        angular_margin: added to the angle to the own class, radians.
        angular_scale: of the cosines.
        triplet_weight: of the triplet loss.
        triplet_margin: between squared distances.
        mining: how a batch's triplets are chosen, `semi_hard` or `batch_hard`.
    """

    angular_weight: float = 1.0
    angular_margin: float = 0.35
    angular_scale: float = 32.0
    triplet_weight: float = 0.0
    triplet_margin: float = 0.3
    mining: str = "semi_hard"

    def __post_init__(self) -> None:
        require_choice(self, "mining", MININGS)
        require_positive(self, "angular_scale", "triplet_margin")
        require_fraction(self, "angular_margin")
        if min(self.angular_weight, self.triplet_weight) < 0:
            raise ConfigError("LossConfig: weights must not be negative")
        if self.angular_weight + self.triplet_weight == 0:
            raise ConfigError(
                "LossConfig.angular_weight and .triplet_weight are both 0: nothing to learn from"
            )


@dataclass(frozen=True)
class AugmentationConfig:
    """How a training picture is changed; shares are chances, `strength` scales the amounts.

    Attributes:
        strength: 0 leaves geometry as it is, 1 is the amounts below.
        rotation: largest angle, degrees.
        zoom: largest change of the logarithm of the size.
        stretch: largest change of the logarithm of width over height.
        shift: largest shift, share of the picture's side.
        color: chance of changed brightness, contrast, saturation and tint.
        grey: chance of losing all colour.
        blur: chance of a lower resolution.
        erase: chance of a hidden rectangle.
    """

    strength: float = 1.0
    rotation: float = 10.0
    zoom: float = 0.12
    stretch: float = 0.06
    shift: float = 0.06
    color: float = 0.8
    grey: float = 0.2
    blur: float = 0.15
    erase: float = 0.5

    def __post_init__(self) -> None:
        for name in ("color", "grey", "blur", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"AugmentationConfig.{name} must lie in [0, 1], got {getattr(self, name)}"
                )
        for name in ("strength", "rotation", "zoom", "stretch", "shift"):
            if not getattr(self, name) >= 0:
                raise ConfigError(
                    f"AugmentationConfig.{name} must not be negative, got {getattr(self, name)}"
                )


@dataclass(frozen=True)
class TrainingConfig:
    """How the network learns.

    Attributes:
        identities_per_batch: P; a batch holds P times K pictures.
        images_per_identity: K; a person with fewer pictures repeats them, augmented differently.
        most_images: pictures of one person seen in an epoch, so that nobody fills it.
        fewest_images: persons with fewer pictures are left out of training.
        weight_decay: of AdamW.
        average_momentum: of the moving average of the weights, which is what is kept.
        score_every: epochs between two measurements on dev.
        patience: epochs without a better dev score before training stops.
        frozen: layers whose names begin with one of these keep the weights they start from;
            `discriminants` is the fitted half.
        dev_fraction: share of the identities held out by a hash of their names.
        dev_identities: the identities to hold out instead, by name.
        precision: `auto` is half precision on a GPU only.
    """

    epochs: int = 60
    identities_per_batch: int = 64
    images_per_identity: int = 1
    most_images: int = 20
    fewest_images: int = 2
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    weight_decay: float = 1e-2
    average_momentum: float = 0.99
    score_every: int = 1
    patience: int = 60
    frozen: tuple[str, ...] = ()
    dev_fraction: float = 0.1
    dev_identities: tuple[str, ...] = ()
    precision: str = "auto"
    seed: int = 1

    def __post_init__(self) -> None:
        require_positive(self, "epochs", "identities_per_batch", "images_per_identity")
        require_positive(self, "most_images", "fewest_images", "score_every", "patience")
        require_fraction(self, "weight_decay", "average_momentum", "dev_fraction")
        require_choice(self, "precision", PRECISIONS)


@dataclass(frozen=True)
class FaceConfig:
    """All that defines a face recogniser besides its data."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        if self.loss.triplet_weight > 0 and self.training.images_per_identity < 2:
            raise ConfigError(
                "TrainingConfig.images_per_identity must be at least 2 for the triplet loss, got "
                f"{self.training.images_per_identity}"
            )


BASE = FaceConfig(
    network=NetworkConfig(
        backbone=BackboneConfig(
            stem_filters=48, stem_stride=1, filters=(48, 96, 192), repeats=(1, 1, 1), l2=0.0
        ),
    ),
    training=TrainingConfig(
        epochs=24,
        most_images=12,
        schedule=ScheduleConfig(peak=2e-3),
        weight_decay=5e-2,
        score_every=2,
    ),
)
"""LFW's development list: the shipped model. See README.md for command, time and result."""

TINY = FaceConfig(
    network=NetworkConfig(
        image_size=32,
        central=1.0,
        front="pixels",
        backbone=BackboneConfig(stem_filters=8, filters=(8, 16, 32), repeats=(1, 1, 1)),
        dropout=0.0,
        gradients=GradientConfig(scales=(1.0,)),
        discriminants=DiscriminantConfig(units=32, components=60, copies=0),
        flip_average=False,
    ),
    augmentation=AugmentationConfig(strength=0.5, erase=0.0),
    training=TrainingConfig(
        epochs=4,
        identities_per_batch=8,
        images_per_identity=4,
        schedule=ScheduleConfig(peak=5e-3),
        average_momentum=0.0,
        dev_fraction=0.2,
    ),
)
"""Seconds on a laptop: tests, and the demo where nothing is shipped."""

ORL = replace(
    BASE,
    network=replace(
        BASE.network,
        central=1.0,
        gradients=GradientConfig(scales=(0.8, 1.6, 3.2)),
        discriminants=DiscriminantConfig(
            share=0.9, components=350, shrinkage=0.2, copies=4, strength=1.0
        ),
    ),
    loss=LossConfig(triplet_weight=1.0),
    training=replace(
        BASE.training,
        epochs=20,
        identities_per_batch=16,
        images_per_identity=4,
        schedule=ScheduleConfig(peak=1e-3),
        average_momentum=0.0,
        score_every=10,
        dev_identities=("s26", "s27", "s28", "s29", "s30"),
    ),
)
"""ORL's first 30 people, the last five of them held out; 250 pictures to learn from."""

PRESETS = {"base": BASE, "orl": ORL, "tiny": TINY}
