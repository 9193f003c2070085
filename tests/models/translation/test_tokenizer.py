import re
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from models.common.config import ConfigError
from models.translation.config import TokenizerConfig
from models.translation.tokenizer import characters_map, learn_byte_pairs, train_tokenizer
from protocol.subwords import FIRST_PIECE_ID, LONGEST_WORD, UNKNOWN_ID, WORD_START

SENTENCES = (Path(__file__).parent / "sentences.txt").read_text("utf-8").splitlines()
CONFIG = TokenizerConfig(vocabulary_size=400, max_tokens=1000)
KNOWN = sorted(set("".join(SENTENCES)))


class Learned:
    """A tokenizer of ours beside the library's own model of the same texts."""

    def __init__(self, texts, config):
        self.ours = train_tokenizer(texts, config)
        self.normal = [self.ours.normalize(text) for text in texts]
        model = learn_byte_pairs(self.normal, config.vocabulary_size - FIRST_PIECE_ID)
        self.library = SentencePieceProcessor(model_proto=model)

    def library_ids(self, text):
        """The library's ids as ours: its unknown is 0, its first piece 1, and it has no end."""
        ids = self.library.encode(text)
        return [index + FIRST_PIECE_ID - 1 if index else UNKNOWN_ID for index in ids]


@pytest.fixture(scope="module", name="learned")
def learned_fixture():
    return Learned(SENTENCES, CONFIG)


@pytest.fixture(scope="module", name="tokenizer")
def tokenizer_fixture(learned):
    return learned.ours


# Against the library that learned the pieces.


def test_pieces_are_the_librarys_in_its_order(learned):
    library = learned.library
    pieces = [library.id_to_piece(index) for index in range(1, library.vocab_size())]
    scores = [library.get_score(index) for index in range(1, library.vocab_size())]
    assert learned.ours.pieces == tuple(pieces)
    assert scores == sorted(scores, reverse=True)
    assert learned.ours.vocabulary_size == CONFIG.vocabulary_size


def test_ids_are_the_librarys(learned):
    for text in learned.normal:
        *ids, _ = learned.ours.encode(text).ids
        assert ids == learned.library_ids(text)
        assert UNKNOWN_ID not in ids


@settings(deadline=None)
@given(words=st.lists(st.text(KNOWN, min_size=1, max_size=LONGEST_WORD), max_size=8))
def test_ids_are_the_librarys_for_any_known_characters(learned, words):
    text = learned.ours.normalize(" ".join(words))
    *ids, _ = learned.ours.encode(text).ids
    assert ids == learned.library_ids(text)
    assert learned.ours.decode(ids) == text == learned.library.decode(learned.library.encode(text))


@settings(deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(KNOWN)))
def test_the_library_knows_what_is_unknown_but_joins_it(learned, text):
    text = learned.ours.normalize(text)[:LONGEST_WORD]
    *ids, _ = learned.ours.encode(text).ids
    joined = [index for index, run in groupby(ids) for index in (set(run) if index == 1 else run)]
    assert joined == learned.library_ids(text)


@pytest.mark.data("nmt_tatoeba_en_fr")
def test_ids_are_the_librarys_for_real_sentences(data_dir):
    assert_the_librarys_ids(data_dir / "nmt_tatoeba_en_fr" / "train.tsv", TokenizerConfig())


@pytest.mark.data("nmt_multi30k")
def test_ids_are_the_librarys_for_german(data_dir):
    config = TokenizerConfig(lowercase=True)
    assert_the_librarys_ids(data_dir / "nmt_multi30k" / "train.de", config)


def assert_the_librarys_ids(file, config):
    texts = file.read_text("utf-8").replace("\t", "\n").splitlines()
    learned = Learned(texts[:60_000], config)
    assert learned.ours.vocabulary_size == config.vocabulary_size
    for text in learned.normal:
        *ids, _ = learned.ours.encode(text).ids
        assert ids == learned.library_ids(text)
        assert learned.ours.decode(ids) == text


# Learning.


def test_learning_twice_gives_the_same_pieces(tokenizer):
    assert train_tokenizer(iter(SENTENCES), CONFIG).pieces == tokenizer.pieces


def test_every_character_of_the_texts_is_known(tokenizer):
    for text in SENTENCES:
        assert tokenizer.decode(tokenizer.encode(text).ids) == tokenizer.normalize(text)


def test_digits_stay_apart(tokenizer):
    shown = tokenizer.pieces_of(tokenizer.encode("450 450").ids)
    assert shown == [WORD_START, "4", "5", "0", WORD_START, "4", "5", "0", "</s>"]


def test_a_small_corpus_yields_fewer_pieces():
    tokenizer = train_tokenizer(["no no no"], TokenizerConfig(vocabulary_size=8000))
    assert set(tokenizer.pieces) >= {"▁", "n", "o", "▁no"}
    assert tokenizer.vocabulary_size < 20


def test_what_is_never_a_piece():
    texts = ["a\ufffdb a\ufffdb", "▁ab ▁ab", "  ", ""]
    for kind in ("subwords", "characters"):
        tokenizer = train_tokenizer(texts, TokenizerConfig(kind))
        assert set("".join(tokenizer.pieces)) == set("▁_ab")


def test_characters_by_frequency_then_code_point():
    config = TokenizerConfig("characters", vocabulary_size=400, max_tokens=7)
    tokenizer = train_tokenizer(["3 mai", "mars 3", "m"], config)
    assert tokenizer.pieces == ("▁", "m", "3", "a", "i", "r", "s")
    assert tokenizer.max_tokens == 7


def test_rare_characters_are_left_out():
    tokenizer = train_tokenizer(["aab"], TokenizerConfig("characters", vocabulary_size=6))
    assert tokenizer.pieces == ("▁", "a")


def test_no_room_for_the_characters():
    with pytest.raises(ConfigError, match=r"at least 8 for 4 characters, got 7"):
        train_tokenizer(["abc"], TokenizerConfig(vocabulary_size=7))
    assert len(train_tokenizer(["abc"], TokenizerConfig(vocabulary_size=8)).pieces) == 4


@pytest.mark.parametrize("kind", ["subwords", "characters"])
def test_no_text(kind):
    with pytest.raises(ValueError, match="learns from texts, got none"):
        train_tokenizer(["", " \t"], TokenizerConfig(kind))


# Characters.


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\t\n\r\0\x1f\x7f\x85", " "),
        ("\u00a0\u1680\u2000\u2009\u2028\u2029\u202f\u205f\u3000", " "),
        ("\u2018\u2019\u201a\u201b\u02bc", "'"),
        ("\u201c\u201d\u201e\u201f", '"'),
        ("\u2010\u2011", "-"),
        ("\u00ad\u200b\u200c\u200d\u200e\u2060\ufe0f\ufeff", ""),
    ],
)
def test_replaced_characters(old, new):
    characters = characters_map(CONFIG)
    assert {characters[character] for character in old} == {new}


def test_other_characters_stay():
    kept = "aZ09 .,;:!?'\"-«»…–—éÉßœ\ufffd_▁漢"
    assert not set(kept) & set(characters_map(CONFIG))


def test_small_letters():
    characters = characters_map(TokenizerConfig(lowercase=True))
    assert [characters[capital] for capital in "AZÉÄŒЖΩẞ\u2126"] == list("azéäœжωßω")
    assert "İ" not in characters  # would become two characters
    assert not set("aéß") & set(characters)


@pytest.mark.parametrize("lowercase", [False, True])
def test_replacing_once_is_enough(lowercase):
    characters = characters_map(TokenizerConfig(lowercase=lowercase))
    assert not set(characters) & set(characters.values())
    assert not any(re.search(r"\s", new) for new in set(characters.values()) - {" "})
