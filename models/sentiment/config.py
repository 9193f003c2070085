"""Configuration of the sentiment classifier, and its presets."""

from dataclasses import dataclass, field

from models.common.config import require_choice, require_fraction, require_positive

RECURRENT_LAYERS = ("lstm", "gru")


@dataclass(frozen=True)
class TokenizerConfig:
    """How text becomes token ids.

    Attributes:
        vocabulary_size: ids in use, padding (0) and unknown (1) included; below 32,768, because
            the pair hash works in 31 bits.
        max_tokens: longer texts are cut.
        head_tokens: of a cut text, how many tokens are kept from its start; the rest come from
            its end, where reviews state their verdict (Sun et al. 2019, "How to Fine-Tune BERT
            for Text Classification?", section 5.3.1).
    """

    vocabulary_size: int = 20_000
    max_tokens: int = 512
    head_tokens: int = 128

    def __post_init__(self) -> None:
        require_positive(self, "vocabulary_size", "max_tokens")
        if not 3 <= self.vocabulary_size < 2**15:
            raise ValueError(
                f"TokenizerConfig.vocabulary_size must lie in 3..32767, got {self.vocabulary_size}"
            )
        if not 0 <= self.head_tokens <= self.max_tokens:
            raise ValueError(
                f"TokenizerConfig.head_tokens must lie in 0..{self.max_tokens}, "
                f"got {self.head_tokens}"
            )


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes and regularisation of the network.

    Attributes:
        recurrent: `lstm` or `gru`; runs in both directions.
        recurrent_units: size of the state in each direction.
        attention_units: hidden size of the additive attention that pools the states.
        pair_buckets: size of the linear part's table of hashed word pairs; 0 leaves the linear
            part out.
        embedding_dropout: share of embedding channels dropped for a whole text.
        dropout: share of pooled features dropped.
        l2: weight of the squared kernel of dense and recurrent layers in the loss.
        train_embeddings: whether the word embeddings learn, or stay as they were initialised.
    """

    embedding_units: int = 50
    recurrent: str = "lstm"
    recurrent_units: int = 64
    attention_units: int = 64
    pair_buckets: int = 1_048_573  # the largest prime below 2^20
    embedding_dropout: float = 0.3
    dropout: float = 0.5
    l2: float = 1e-6
    train_embeddings: bool = True

    def __post_init__(self) -> None:
        require_positive(self, "embedding_units", "recurrent_units", "attention_units")
        require_choice(self, "recurrent", RECURRENT_LAYERS)
        require_fraction(self, "embedding_dropout", "dropout", "l2")
        if not 0 <= self.pair_buckets < 2**31:
            raise ValueError(
                f"NetworkConfig.pair_buckets must lie in 0..2^31-1, got {self.pair_buckets}"
            )


@dataclass(frozen=True)
class TrainingConfig:
    """How the network learns.

    Attributes:
        crop_probability: chance that a long training text is joined by a short excerpt of
            itself with the same label, so that one model serves reviews and single sentences.
        learning_rate: peak, reached after `warmup_steps`, then a cosine down to a fiftieth.
        clip_norm: gradients of each variable are clipped to this L2 norm.
        linear_inverse_regularization: how closely the linear part fits (scikit-learn's C).
        patience: epochs without a better mean dev accuracy before training stops.
        dev_fraction: share of a training file held out by hash where a source has no dev file.
    """

    epochs: int = 8
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    clip_norm: float = 1.0
    linear_inverse_regularization: float = 8.0
    crop_probability: float = 0.0
    patience: int = 3
    dev_fraction: float = 0.2
    seed: int = 1

    def __post_init__(self) -> None:
        require_positive(self, "epochs", "batch_size", "learning_rate", "clip_norm", "patience")
        require_positive(self, "linear_inverse_regularization")
        require_fraction(self, "dev_fraction")
        if not 0 <= self.crop_probability <= 1:
            raise ValueError(
                f"TrainingConfig.crop_probability must lie in 0..1, got {self.crop_probability}"
            )


@dataclass(frozen=True)
class SentimentConfig:
    """All that defines a sentiment model besides its data."""

    labels: tuple[str, ...] = ("negative", "positive")
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels) or len(self.labels) < 2:
            raise ValueError(
                f"SentimentConfig.labels must be two or more different names, got {self.labels}"
            )


BASE = SentimentConfig()
"""IMDb, SST-2 and MR: the shipped model. See README.md for the command, the time and the result."""

TINY = SentimentConfig(
    tokenizer=TokenizerConfig(vocabulary_size=500, max_tokens=64, head_tokens=16),
    network=NetworkConfig(
        embedding_units=16,
        recurrent_units=8,
        attention_units=8,
        pair_buckets=1021,
        embedding_dropout=0.0,
        dropout=0.1,
    ),
    training=TrainingConfig(epochs=5, warmup_steps=10, learning_rate=1e-2, crop_probability=0.0),
)
"""Seconds on a laptop: tests, and the demo where nothing is shipped."""

PRESETS = {"base": BASE, "tiny": TINY}
