"""The translation model's subwords: how they are learned, and what characters become.

The pieces are data. `protocol.subwords.SubwordTokenizer` merges them in Python, `GraphTokenizer`
in a TensorFlow graph; both are made from the same pieces, so both give the same ids.
"""

import io
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any

from models.common.config import ConfigError
from models.translation.config import TokenizerConfig
from protocol.subwords import FIRST_PIECE_ID, UNKNOWN_TEXT, WORD_START, SubwordTokenizer

_BASIC_PLANE = 0x10000
_LARGEST_LINE = 2**24  # bytes; the library leaves longer ones out
_STRAIGHT = {
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f", '"'),
    **dict.fromkeys("\u2010\u2011", "-"),
}
# First and last code points: soft hyphen, joiners and marks of direction, variation selectors.
_WITHOUT_WIDTH = (
    (0x00AD, 0x00AD),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
)


def train_tokenizer(texts: Iterable[str], config: TokenizerConfig) -> SubwordTokenizer:
    """Learns the pieces of a tokenizer; the same texts and config give the same pieces.

    Args:
        texts: sentences of both languages, with their repetitions.
        config: `vocabulary_size` is an upper bound, a small corpus yields fewer pieces.

    Raises:
        ConfigError: the vocabulary has no room for the characters of the texts.
        ValueError: there is no text.
    """
    characters = characters_map(config)
    blank = SubwordTokenizer([WORD_START], characters, max_tokens=1)
    sentences = [blank.normalize(text.replace(UNKNOWN_TEXT, " ")) for text in texts]
    sentences = [sentence for sentence in sentences if sentence]
    if not sentences:
        raise ValueError("a tokenizer learns from texts, got none that is not blank")
    learn = {"characters": _frequent_characters, "subwords": _subwords}[config.kind]
    pieces = learn(sentences, config.vocabulary_size - FIRST_PIECE_ID)
    return SubwordTokenizer(pieces, characters, config.max_tokens)


def learn_byte_pairs(sentences: Iterable[str], size: int) -> bytes:
    """Learns with the sentencepiece library, in memory.

    Args:
        sentences: normalised, in an order that matters where pairs are equally frequent.
        size: largest number of pieces.

    Returns:
        The library's serialised model. Its id 0 is unknown, the pieces follow.
    """
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        model_type="bpe",
        vocab_size=size + 1,
        hard_vocab_limit=False,
        unk_id=0,
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        normalization_rule_name="identity",
        character_coverage=1.0,
        split_digits=True,
        max_sentence_length=_LARGEST_LINE,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def characters_map(config: TokenizerConfig) -> dict[str, str]:
    """Returns what each character is replaced by before a text is split.

    Whitespace and control characters become spaces, curly quotes straight, typographic hyphens
    "-". Characters without width vanish. With `config.lowercase`, capital letters become small
    ones where that is one character to one.
    """
    basic = [chr(code) for code in range(_BASIC_PLANE)]
    spaces = dict.fromkeys(filter(_is_space, basic), " ")
    without_width = {
        chr(code): "" for first, last in _WITHOUT_WIDTH for code in range(first, last + 1)
    }
    small = {old: old.lower() for old in basic if config.lowercase and len(old.lower()) == 1}
    replaced = small | spaces | _STRAIGHT | without_width
    return {old: new for old, new in sorted(replaced.items()) if old != new}


def _is_space(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) == "Cc"


def _frequent_characters(sentences: list[str], size: int) -> list[str]:
    """Returns a word's mark and the most frequent characters, ties in the order of code points."""
    counts = Counter(character for sentence in sentences for character in sentence)
    counts.pop(" ", None)
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    return [WORD_START, *ranked][: max(size, 1)]


def _subwords(sentences: list[str], size: int) -> list[str]:
    """Learns byte pairs; the pair that was merged first comes first, characters come last."""
    from sentencepiece import SentencePieceProcessor

    _check_room(sentences, size)
    model = SentencePieceProcessor(model_proto=learn_byte_pairs(sentences, size))
    own = [index for index in range(model.vocab_size()) if not model.is_unknown(index)]
    by_score = sorted(own, key=lambda index: (-model.get_score(index), index))
    return [model.id_to_piece(index) for index in by_score]


def _check_room(sentences: list[str], size: int) -> None:
    characters = set().union(*sentences) - {" "} | {WORD_START}
    if len(characters) > size:
        raise ConfigError(
            f"TokenizerConfig.vocabulary_size must be at least {len(characters) + FIRST_PIECE_ID} "
            f"for {len(characters)} characters, got {size + FIRST_PIECE_ID}"
        )


def make_graph_tokenizer(tokenizer: SubwordTokenizer) -> Any:
    """Returns a `GraphTokenizer`, a `tf.Module` with the methods `encode`, `decode` and `pieces`.

    TensorFlow is imported here only, so that training on another backend does without it.
    """
    from models.translation.graph_tokenizer import GraphTokenizer

    return GraphTokenizer(tokenizer)
