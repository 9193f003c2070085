import json
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import DataLossError
from protocol.subwords import (
    END_ID,
    FIRST_PIECE_ID,
    LONGEST_WORD,
    SUBWORDS_FILE,
    UNKNOWN_ID,
    WORD_START,
    SubwordTokenizer,
)

# Both "abc" splits exist, "abcd" comes before "abc", and "aa" can be merged in two places.
PIECES = ["ab", "aa", "▁ab", "bc", "cd", "abcd", "abc", "▁d", "▁", "a", "b", "c", "d", "é", "_"]
CHARACTERS = {"A": "a", "\t": " ", "\u00a0": " ", "\u200b": "", "É": "é"}
ID = {piece: FIRST_PIECE_ID + index for index, piece in enumerate(PIECES)}
WORDS = st.text(st.sampled_from("abcdé_"), min_size=1, max_size=12)


def make_tokenizer(max_tokens=20):
    return SubwordTokenizer(PIECES, CHARACTERS, max_tokens)


@pytest.fixture(name="tokenizer")
def tokenizer_fixture():
    return make_tokenizer()


# Text.


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("a b", "a b"),
        (b"  a   b ", "a b"),
        ("A\tÉ\u00a0\u200bb", "a é b"),
        ("a\u200b \u200b b", "a b"),
        ("", ""),
        (b" \t\xc2\xa0 ", ""),
        ("▁a ▁", "_a _"),
        (b"a\xff\xe2\x82b", "a\ufffd\ufffdb"),
        ("\ud800", "\ufffd\ufffd\ufffd"),
        ("a\nb\u2028c", "a\nb\u2028c"),  # only what the map names becomes a space
        ("AÉ\u0301", "aé\u0301"),
    ],
)
def test_normal_text(tokenizer, text, normal):
    assert tokenizer.normalize(text) == normal


def test_a_replacement_is_not_replaced_again():
    tokenizer = SubwordTokenizer(["▁"], {"a": "b", "b": "c", "c": "▂"}, max_tokens=9)
    assert tokenizer.normalize("abc") == "bc▂"


# Merging.


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("a", ["▁", "a"]),
        ("ab", ["▁ab"]),
        ("aab", ["▁", "a", "ab"]),  # "ab" has a lower id than "aa"
        ("aaa", ["▁", "aa", "a"]),  # the leftmost first
        ("aaaa", ["▁", "aa", "aa"]),
        ("abcd", ["▁ab", "cd"]),  # "▁ab" is merged before "abcd" can be
        ("cabcd", ["▁", "c", "abcd"]),  # "ab", "cd", then both
        ("babc", ["▁", "b", "abc"]),  # of "ab" and "c", for want of "bc"
        ("dbcd", ["▁d", "bc", "d"]),
        ("d d", ["▁d", "▁d"]),
        ("xéé", ["▁", "<unk>", "é", "é"]),
        ("axxb", ["▁", "a", "<unk>", "<unk>", "b"]),  # unknown characters stay apart
        ("▁d", ["▁", "_", "d"]),
        ("", []),
    ],
)
def test_merging_worked_by_hand(tokenizer, text, pieces):
    encoded = tokenizer.encode(text)
    assert tokenizer.pieces_of(encoded.ids) == [*pieces, "</s>"]
    assert (encoded.tokens, encoded.truncated) == (len(pieces) + 1, False)


def merge_naively(word):
    """The rule in its plainest form: try pieces in their order, start again after each merge."""
    symbols = list(word)
    while True:
        pairs = [left + right for left, right in pairwise(symbols)]
        piece = next((piece for piece in PIECES if piece in pairs), None)
        if piece is None:
            return symbols
        at = pairs.index(piece)
        symbols = [*symbols[:at], piece, *symbols[at + 2 :]]


@given(words=st.lists(WORDS, max_size=4))
def test_merging_equals_the_plain_rule(words):
    expected = [piece for word in words for piece in merge_naively(WORD_START + word)]
    tokenizer = make_tokenizer(100)
    assert tokenizer.pieces_of(tokenizer.encode(" ".join(words)).ids) == [*expected, "</s>"]


@given(words=st.lists(WORDS, max_size=5))
def test_known_text_comes_back(words):
    tokenizer = make_tokenizer(100)
    text = "  ".join(words)
    assert tokenizer.decode(tokenizer.encode(text).ids) == tokenizer.normalize(text)


@pytest.mark.parametrize("length", [47, 48, 49, 96, 97, 500])
def test_long_words_are_merged_in_parts(length):
    tokenizer = make_tokenizer(1000)
    word = ("abcdd" * 100)[:length]
    first, *others = [
        word[start : start + LONGEST_WORD] for start in range(0, length, LONGEST_WORD)
    ]
    expected = merge_naively(WORD_START + first)
    expected += [piece for part in others for piece in merge_naively(part)]
    ids = tokenizer.encode(word).ids
    assert tokenizer.pieces_of(ids) == [*expected, "</s>"]
    assert tokenizer.decode(ids) == word


def test_single_characters_only():
    tokenizer = SubwordTokenizer(["▁", "3", "m", "a", "i"], {}, max_tokens=10)
    encoded = tokenizer.encode("3 mai")
    assert encoded.ids == [4, 5, 4, 6, 7, 8, END_ID]
    assert tokenizer.decode(encoded.ids) == "3 mai"


# Length.


@pytest.mark.parametrize(
    ("max_tokens", "ids", "truncated"),
    [
        (1, [END_ID], True),
        (2, [ID["▁d"], END_ID], True),
        (3, [ID["▁d"], ID["▁ab"], END_ID], True),
        (4, [ID["▁d"], ID["▁ab"], ID["▁d"], END_ID], False),
        (5, [ID["▁d"], ID["▁ab"], ID["▁d"], END_ID], False),
    ],
)
def test_the_end_of_a_long_text_is_cut(max_tokens, ids, truncated):
    encoded = make_tokenizer(max_tokens).encode("d ab d")
    assert encoded.ids == ids
    assert (encoded.tokens, encoded.truncated) == (4, truncated)


def test_batch_is_padded_to_its_longest_text():
    batch = make_tokenizer(4).encode_batch([b"ab", "", "d d d d d"])
    d, ab = ID["▁d"], ID["▁ab"]
    np.testing.assert_array_equal(
        batch.token_ids, [[ab, END_ID, 0, 0], [END_ID, 0, 0, 0], [d, d, d, END_ID]]
    )
    assert batch.tokens.tolist() == [2, 1, 6]
    assert batch.truncated.tolist() == [False, False, True]
    assert (batch.token_ids.dtype, batch.tokens.dtype, batch.truncated.dtype) == (
        np.int32,
        np.int32,
        np.bool_,
    )


@pytest.mark.parametrize(("texts", "shape"), [([], (0, 1)), ([b""], (1, 1)), (["d"], (1, 2))])
def test_batch_has_at_least_one_column(tokenizer, texts, shape):
    assert tokenizer.encode_batch(texts).token_ids.shape == shape


@settings(deadline=None)
@given(texts=st.lists(st.text() | st.binary(), max_size=4))
def test_batch_equals_single_texts(texts):
    tokenizer = make_tokenizer(6)
    batch = tokenizer.encode_batch(texts)
    for row, text in enumerate(texts):
        single = tokenizer.encode(text)
        assert len(single.ids) == min(single.tokens, 6)
        padding = [0] * (batch.token_ids.shape[1] - len(single.ids))
        assert batch.token_ids[row].tolist() == single.ids + padding
        assert (batch.tokens[row], batch.truncated[row]) == (single.tokens, single.truncated)


@given(text=st.text())
def test_str_and_its_bytes_are_the_same_text(text):
    tokenizer = make_tokenizer()
    assert tokenizer.encode(text) == tokenizer.encode(text.encode())


@given(text=st.text())
def test_unknown_characters_come_back_as_replacements(text):
    tokenizer = make_tokenizer(1000)
    expected = "".join(
        character if character in {*PIECES, " "} else "\ufffd"
        for character in tokenizer.normalize(text)
    )
    assert tokenizer.decode(tokenizer.encode(text).ids) == expected


# Ids to text.


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([], ""),
        ([END_ID, ID["a"]], ""),
        ([ID["▁d"], 0, ID["a"]], "d"),
        ([2, ID["▁d"], 2, ID["▁ab"], END_ID, ID["a"]], "d ab"),
        ([ID["a"], UNKNOWN_ID, ID["b"]], "a\ufffdb"),
        ([ID["▁"], ID["▁"], ID["a"], ID["▁"], ID["▁d"], ID["▁"]], "a  d"),
        (np.array([ID["▁ab"], ID["cd"]], np.int32), "abcd"),
    ],
)
def test_decoding(tokenizer, ids, text):
    assert tokenizer.decode(ids) == text


def test_how_ids_are_shown(tokenizer):
    ids = [2, ID["▁ab"], UNKNOWN_ID, END_ID, 0]
    assert tokenizer.pieces_of(ids) == ["<s>", "▁ab", "<unk>", "</s>", ""]


@pytest.mark.parametrize("unfit", [-1, 19])
def test_ids_outside_the_vocabulary(tokenizer, unfit):
    assert tokenizer.vocabulary_size == 19
    with pytest.raises(ValueError, match=rf"ids must lie in 0\.\.18, got \[{unfit}\]"):
        tokenizer.decode([18, unfit])
    with pytest.raises(ValueError, match="ids must lie in"):
        tokenizer.pieces_of([unfit])


# Time.


@pytest.mark.parametrize("unit", ["abcd d ", "a", " ", "abcdé" * 10 + " ", "x", "\xff"])
def test_a_megabyte_takes_linear_time(unit):
    text = (unit * 1_000_000).encode("latin-1")[:1_000_000]
    start = time.perf_counter()
    encoded = make_tokenizer().encode(text)
    assert time.perf_counter() - start < 20  # quadratic time would take minutes
    assert len(encoded.ids) <= 20


@pytest.mark.bench
def test_a_short_sentence_takes_microseconds(tokenizer):
    text = b"ab abc d bc aab dab cdb abd abb cab"
    start = time.perf_counter()
    for _ in range(2_000):
        tokenizer.encode(text)
    assert (time.perf_counter() - start) / 2_000 < 50e-6


# Files.


def test_saving_and_loading(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "assets")
    loaded = SubwordTokenizer.from_folder(tmp_path / "assets")
    assert loaded.pieces == tuple(PIECES)
    assert loaded.characters == CHARACTERS
    assert loaded.max_tokens == 20
    assert loaded.encode("Ab x ÉÉ") == tokenizer.encode("Ab x ÉÉ")


def test_file_as_documented(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    assert json.loads((tmp_path / SUBWORDS_FILE).read_bytes().decode()) == {
        "format": "subword_tokenizer/1",
        "max_tokens": 20,
        "padding_id": 0,
        "unknown_id": 1,
        "start_id": 2,
        "end_id": 3,
        "characters": CHARACTERS,
        "pieces": PIECES,
    }


def test_missing_file(tmp_path):
    with pytest.raises(DataLossError, match=r"tokenizer in .* cannot be read: .*subwords\.json"):
        SubwordTokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "word_tokenizer/1"}, "has format 'word_tokenizer/1', expected"),
        ({"end_id": 7}, "has the special ids .*'end_id': 7"),
        ({"pieces": ["a"]}, "is not a tokenizer: .*missing"),
        ({"pieces": [1]}, "is not a tokenizer"),
        ({"characters": [1]}, "is not a tokenizer"),
        ({"characters": {"ab": "c"}}, "is not a tokenizer: .*got"),
        ({"max_tokens": "many"}, "is not a tokenizer"),
        ({"max_tokens": 2.5}, "is not a tokenizer"),
    ],
)
def test_damaged_file(tokenizer, tmp_path, change, message):
    tokenizer.save(tmp_path)
    document = json.loads((tmp_path / SUBWORDS_FILE).read_bytes().decode())
    (tmp_path / SUBWORDS_FILE).write_text(json.dumps(document | change))
    with pytest.raises(DataLossError, match=message):
        SubwordTokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("text", ["[]", "{}", "no json", "\xff"])
def test_other_files(tmp_path, text):
    (tmp_path / SUBWORDS_FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(DataLossError):
        SubwordTokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("pieces", "characters", "message"),
    [
        ([*PIECES, "a"], {}, r"pieces repeat: \['a'\]"),
        ([*PIECES, ""], {}, r"non-empty.*got \[''\]"),
        ([*PIECES, "a\u00a0"], {}, "without whitespace"),
        ([*PIECES, "a▁"], {}, "at their start only"),
        (["a"], {}, r"must be pieces too, missing \['▁'\]"),
        (["▁", "xyz", "x"], {}, r"missing \['y', 'z'\]"),
        (PIECES, {"ab": "c"}, r"map one character to one or none.*got \{'ab': 'c'\}"),
        (PIECES, {"ß": "ss"}, "to one or none"),
        (PIECES, {"": "a"}, "one character"),
        (PIECES, {" ": "a"}, r"not ' ' or '▁'"),
        (PIECES, {"▁": "a"}, r"not ' ' or '▁'"),
        (PIECES, {"a": "▁"}, r"not ' ' or '▁'"),
    ],
)
def test_unfit_assets(pieces, characters, message):
    with pytest.raises(ValueError, match=message):
        SubwordTokenizer(pieces, characters, max_tokens=5)


def test_unfit_size():
    with pytest.raises(ValueError, match="max_tokens must be at least 1, got 0"):
        make_tokenizer(0)
