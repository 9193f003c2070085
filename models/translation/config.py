"""Configuration of the translation model, and its presets."""

from dataclasses import dataclass, field, replace

from models.common.config import ConfigError, require_choice, require_fraction, require_positive
from models.common.training import PRECISIONS, ScheduleConfig

TOKENIZERS = ("subwords", "characters")
NETWORKS = ("attention", "transformer")
RECURRENT_LAYERS = ("lstm", "gru")


@dataclass(frozen=True)
class TokenizerConfig:
    """How text becomes token ids, for both languages alike.

    Attributes:
        kind: `subwords` learned by byte pair encoding (Sennrich et al. 2016), or `characters`.
        vocabulary_size: most ids in use, the four special ones included.
        lowercase: whether capital letters become small ones.
        max_tokens: longer texts are cut, and say so.
    """

    kind: str = "subwords"
    vocabulary_size: int = 6000
    lowercase: bool = False
    max_tokens: int = 128

    def __post_init__(self) -> None:
        require_choice(self, "kind", TOKENIZERS)
        require_positive(self, "vocabulary_size", "max_tokens")


@dataclass(frozen=True)
class AttentionConfig:
    """Sizes of the recurrent network with additive attention.

    Attributes:
        embedding_units: size of a token's vector, for both languages.
        encoder_units: size of the encoder's state in each direction.
        decoder_units: size of the decoder's state.
        energy_units: hidden size of the network that computes the energies.
        recurrent: `lstm` or `gru`, in the encoder and the decoder.
        feedback: whether the decoder reads the token it wrote last; without it the outputs
            depend on each other through its state only.
        dropout: share of embedded and of output features dropped in training.
    """

    embedding_units: int = 256
    encoder_units: int = 256
    decoder_units: int = 256
    energy_units: int = 128
    recurrent: str = "gru"
    feedback: bool = True
    dropout: float = 0.3

    def __post_init__(self) -> None:
        require_positive(self, "embedding_units", "encoder_units", "decoder_units", "energy_units")
        require_choice(self, "recurrent", RECURRENT_LAYERS)
        require_fraction(self, "dropout")


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of the Transformer, named as in Vaswani et al. 2017.

    Attributes:
        units: d_model.
        heads: h; each has d_model / h units.
        feedforward_units: d_ff.
        encoder_layers: N of the encoder.
        decoder_layers: N of the decoder.
        dropout: share dropped of each sub-layer's output and of the embeddings.
    """

    units: int = 256
    heads: int = 4
    feedforward_units: int = 512
    encoder_layers: int = 3
    decoder_layers: int = 2
    dropout: float = 0.1

    def __post_init__(self) -> None:
        require_positive(
            self, "units", "heads", "feedforward_units", "encoder_layers", "decoder_layers"
        )
        require_fraction(self, "dropout")
        if self.units % self.heads or self.units % 2:
            raise ConfigError(
                f"TransformerConfig.units must be even and a multiple of heads {self.heads}, "
                f"got {self.units}"
            )


@dataclass(frozen=True)
class DecodingConfig:
    """How a translation is searched for.

    Attributes:
        beam_width: hypotheses kept at each step; 1 is greedy.
        length_penalty: alpha of Wu et al. 2016, equation 14; 0 compares sums of log-probabilities.
        max_length: most tokens of a translation, its end included.
        length_factor: a translation may have this many times the tokens of its source ...
        length_allowance: ... and so many more.
    """

    beam_width: int = 4
    length_penalty: float = 0.6
    max_length: int = 128
    length_factor: float = 2.0
    length_allowance: int = 10

    def __post_init__(self) -> None:
        require_positive(self, "beam_width", "max_length", "length_allowance")
        if self.length_penalty < 0 or self.length_factor < 0:
            raise ConfigError(
                "DecodingConfig.length_penalty and length_factor must be 0 or more, got "
                f"{self.length_penalty} and {self.length_factor}"
            )


@dataclass(frozen=True)
class TrainingConfig:
    """How the network learns.

    Attributes:
        batch_tokens: tokens of a batch, source and target with their padding.
        schedule: of the learning rate.
        label_smoothing: share of the probability spread over all tokens (Szegedy et al. 2016).
        clip_norm: the gradient's global norm is clipped to this.
        averaged_checkpoints: weights of so many last epochs are averaged at the end.
        dev_sentences: dev sentences translated after each epoch, from the first on; all in the
            end.
        patience: epochs without a better dev BLEU before training stops.
        dev_fraction: share held out by hash as dev where a folder has no dev part.
        precision: what layers compute in, see `models.common.training`.
    """

    epochs: int = 12
    batch_tokens: int = 3000
    schedule: ScheduleConfig = field(default_factory=lambda: ScheduleConfig(peak=1e-3, warmup=0.1))
    label_smoothing: float = 0.1
    clip_norm: float = 1.0
    averaged_checkpoints: int = 5
    dev_sentences: int = 500
    patience: int = 5
    dev_fraction: float = 0.02
    precision: str = "auto"
    seed: int = 1

    def __post_init__(self) -> None:
        require_positive(self, "epochs", "batch_tokens", "clip_norm", "averaged_checkpoints")
        require_positive(self, "dev_sentences", "patience")
        require_choice(self, "precision", PRECISIONS)
        require_fraction(self, "label_smoothing", "dev_fraction")


@dataclass(frozen=True)
class TranslationConfig:
    """All that defines a translation model besides its data.

    Attributes:
        languages: source and target; they choose files such as `train.de` and `train.en`.
        data: name of the shared data set that trains where no folder is given.
        network: `attention` or `transformer`; the section of that name holds its sizes.
    """

    languages: tuple[str, str] = ("en", "fr")
    data: str = "nmt_tatoeba_en_fr"
    network: str = "transformer"
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        require_choice(self, "network", NETWORKS)
        if len(self.languages) != 2:
            raise ConfigError(
                f"TranslationConfig.languages must name a source and a target, got {self.languages}"
            )


BASE = TranslationConfig()
"""English to French (nmt_tatoeba_en_fr): the shipped model; README.md has command and result."""

DATES = TranslationConfig(
    languages=("date", "iso"),
    data="dates",
    network="attention",
    tokenizer=TokenizerConfig(kind="characters", vocabulary_size=400, max_tokens=64),
    attention=AttentionConfig(
        embedding_units=64,
        encoder_units=64,
        decoder_units=128,
        energy_units=64,
        recurrent="lstm",
        feedback=False,
        dropout=0.0,
    ),
    decoding=DecodingConfig(max_length=16),
    training=TrainingConfig(
        epochs=8,
        batch_tokens=12_000,
        schedule=ScheduleConfig(peak=3e-3, warmup=0.05),
        label_smoothing=0.0,
    ),
)
"""Dates as people write them to ISO 8601; the second shipped model, served as translation_dates."""

MULTI30K = TranslationConfig(
    languages=("de", "en"),
    data="nmt_multi30k",
    tokenizer=TokenizerConfig(lowercase=True),
    transformer=TransformerConfig(dropout=0.3),
    training=TrainingConfig(epochs=24),
)
"""German to English picture captions, lower-cased as in publications: the Transformer."""

MULTI30K_ATTENTION = replace(MULTI30K, network="attention")
"""The same with the recurrent network."""

TINY = TranslationConfig(
    data="synthetic",
    tokenizer=TokenizerConfig(vocabulary_size=200, max_tokens=48),
    attention=AttentionConfig(
        embedding_units=32,
        encoder_units=32,
        decoder_units=64,
        energy_units=32,
        dropout=0.0,
    ),
    transformer=TransformerConfig(
        units=32, heads=2, feedforward_units=64, encoder_layers=1, decoder_layers=1, dropout=0.0
    ),
    decoding=DecodingConfig(beam_width=2, max_length=48),
    training=TrainingConfig(
        epochs=6,
        batch_tokens=600,
        schedule=ScheduleConfig(peak=1e-2),
        label_smoothing=0.0,
        averaged_checkpoints=2,
        patience=6,
    ),
)
"""Seconds on a laptop: tests, and the demo where nothing is shipped."""

PRESETS = {
    "base": BASE,
    "dates": DATES,
    "multi30k": MULTI30K,
    "multi30k-attention": MULTI30K_ATTENTION,
    "tiny": TINY,
}
