import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import DataLossError
from protocol.tokenizer import RULES_FILE, VOCABULARY_FILE, WordTokenizer

WORDS = ("good", "film", "!", "caf\u00e9", "n't")
RULES = [
    (r"[\s\v]+", " "),
    (r"([!?.])", r" \1 "),
    (r"([a-z])n't", r"\1 n't"),
]
GOOD, FILM, MARK, CAFE, NOT = range(2, 7)


@pytest.fixture(name="tokenizer")
def tokenizer_fixture():
    return WordTokenizer(WORDS, RULES, max_tokens=5, head_tokens=2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"Good FILM!", ["good", "film", "!"]),
        ("Good FILM!", ["good", "film", "!"]),
        (b"", []),
        (b" \t\r\n\v\f", []),
        (b"didn't\tdo", ["did", "n't", "do"]),
        ("CAF\u00c9", ["caf\u00c9"]),  # only A to Z become lower case
        ("\u0130\u212a", ["\u0130\u212a"]),  # Python would lower these to ASCII letters
        (b"a\xffb\xe2\x82", ["a\ufffdb\ufffd"]),
        ("a\u00a0b\u2028c", ["a\u00a0b\u2028c"]),  # whitespace of Unicode is left to the rules
        (b"a\0b", ["a\0b"]),
        ("\ud800", ["\ufffd\ufffd\ufffd"]),
    ],
)
def test_words(tokenizer, text, words):
    assert tokenizer.words(text) == words


def test_ids(tokenizer):
    encoded = tokenizer.encode("good caf\u00e9 isn't!")
    assert encoded.ids == [GOOD, CAFE, 1, NOT, MARK]
    assert (encoded.tokens, encoded.truncated) == (5, False)


def test_long_text_keeps_head_and_tail(tokenizer):
    encoded = tokenizer.encode("good film x x x x ! ! good")
    assert encoded.ids == [GOOD, FILM, MARK, MARK, GOOD]
    assert (encoded.tokens, encoded.truncated) == (9, True)


@pytest.mark.parametrize(
    ("head", "ids"), [(0, [MARK] * 3), (1, [GOOD, MARK, MARK]), (3, [GOOD] * 3)]
)
def test_heads_of_every_size(head, ids):
    tokenizer = WordTokenizer(WORDS, RULES, max_tokens=3, head_tokens=head)
    assert tokenizer.encode("good good good ! ! !").ids == ids


def test_batch_is_padded_to_its_longest_text(tokenizer):
    batch = tokenizer.encode_batch([b"good film", "", b"x x x x x x x"])
    np.testing.assert_array_equal(
        batch.token_ids, [[GOOD, FILM, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]
    )
    assert batch.tokens.tolist() == [2, 0, 7]
    assert batch.truncated.tolist() == [False, False, True]
    assert (batch.token_ids.dtype, batch.tokens.dtype, batch.truncated.dtype) == (
        np.int32,
        np.int32,
        np.bool_,
    )


@pytest.mark.parametrize(("texts", "shape"), [([], (0, 1)), ([b""], (1, 1)), ([b"x"], (1, 1))])
def test_batch_has_at_least_one_column(tokenizer, texts, shape):
    assert tokenizer.encode_batch(texts).token_ids.shape == shape


@settings(deadline=None)
@given(texts=st.lists(st.text() | st.binary(), max_size=4))
def test_batch_equals_single_texts(texts):
    tokenizer = WordTokenizer(WORDS, RULES, max_tokens=4, head_tokens=3)
    batch = tokenizer.encode_batch(texts)
    for row, text in enumerate(texts):
        single = tokenizer.encode(text)
        assert len(single.ids) == min(single.tokens, 4)
        assert batch.token_ids[row].tolist() == single.ids + [0] * (
            batch.token_ids.shape[1] - len(single.ids)
        )
        assert batch.tokens[row] == single.tokens
        assert batch.truncated[row] == (single.tokens > 4)


@settings(deadline=None)
@given(text=st.text())
def test_str_and_its_bytes_are_the_same_text(text):
    tokenizer = WordTokenizer(WORDS, RULES, max_tokens=9, head_tokens=3)
    assert tokenizer.words(text) == tokenizer.words(text.encode())


@pytest.mark.parametrize("unit", ["good film! ", "x", " ", "!", "\u00e9", "\xff"])
def test_a_megabyte_takes_linear_time(tokenizer, unit):
    text = (unit * 1_000_000).encode("latin-1")[:1_000_000]
    start = time.perf_counter()
    encoded = tokenizer.encode(text)
    assert time.perf_counter() - start < 20  # quadratic time would take minutes
    assert len(encoded.ids) <= 5


# Files.


def test_saving_and_loading(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "assets")
    loaded = WordTokenizer.from_folder(tmp_path / "assets")
    assert loaded.vocabulary == WORDS
    assert loaded.rules == tuple(RULES)
    assert (loaded.max_tokens, loaded.head_tokens) == (5, 2)
    text = "Good caf\u00e9 isn't a film! No?"
    assert loaded.encode(text) == tokenizer.encode(text)


def test_files_as_documented(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    assert json.loads((tmp_path / RULES_FILE).read_text()) == {
        "format": "word_tokenizer/1",
        "rules": [list(rule) for rule in RULES],
        "max_tokens": 5,
        "head_tokens": 2,
        "padding_id": 0,
        "unknown_id": 1,
    }
    assert (tmp_path / VOCABULARY_FILE).read_bytes() == "good\nfilm\n!\ncaf\u00e9\nn't\n".encode()


def test_empty_vocabulary(tmp_path):
    WordTokenizer((), RULES, 3, 3).save(tmp_path)
    assert WordTokenizer.from_folder(tmp_path).encode("good").ids == [1]


def test_missing_files(tmp_path):
    with pytest.raises(DataLossError, match=r"tokenizer in .* cannot be read: .*tokenizer\.json"):
        WordTokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "word_tokenizer/2"}, "has format 'word_tokenizer/2', expected"),
        ({"unknown_id": 7}, r"has \(padding_id, unknown_id\) = \(0, 7\)"),
        ({"rules": [["("], "x"]}, "is not a tokenizer"),
        ({"rules": [["(", ""]]}, "is not a valid rule"),
        ({"head_tokens": 6}, "needs 0 <= head_tokens <= max_tokens"),
        ({"max_tokens": "many"}, "is not a tokenizer"),
    ],
)
def test_damaged_rules(tokenizer, tmp_path, change, message):
    tokenizer.save(tmp_path)
    document = json.loads((tmp_path / RULES_FILE).read_text())
    (tmp_path / RULES_FILE).write_text(json.dumps(document | change))
    with pytest.raises(DataLossError, match=message):
        WordTokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("text", ["[]", "{}", "no json", "\xff"])
def test_other_files(tokenizer, tmp_path, text):
    tokenizer.save(tmp_path)
    (tmp_path / RULES_FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(DataLossError):
        WordTokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("vocabulary", "rules", "message"),
    [
        (["a", "b", "a"], RULES, r"vocabulary repeats words: \['a'\]"),
        (["a b"], RULES, "without whitespace"),
        ([""], RULES, "non-empty"),
        (["a\u00a0b"], RULES, "without whitespace"),
        (WORDS, [], "must turn whitespace into spaces"),
        (WORDS, [(r" +", " ")], "must turn whitespace into spaces, but"),
        (WORDS, [*RULES, ("x", "a\n")], r"replacement 'a\\n' of 'x' may hold text without"),
        (WORDS, [*RULES, ("x", r"\n")], "may hold text without whitespace but spaces"),
        (WORDS, [*RULES, ("(x)", r"\g<1>")], "and the groups"),
        (WORDS, [*RULES, ("(x)", r"\0")], "and the groups"),
        (WORDS, [*RULES, ("(x)", r"\2")], "is not a valid rule"),
        (WORDS, [("*", "")], "is not a valid rule"),
    ],
)
def test_unfit_assets(vocabulary, rules, message):
    with pytest.raises(ValueError, match=message):
        WordTokenizer(vocabulary, rules, max_tokens=3, head_tokens=1)


@pytest.mark.parametrize(("max_tokens", "head_tokens"), [(0, 0), (2, 3), (2, -1)])
def test_unfit_sizes(max_tokens, head_tokens):
    with pytest.raises(ValueError, match="got head_tokens="):
        WordTokenizer(WORDS, RULES, max_tokens, head_tokens)
