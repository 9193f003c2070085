import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.sentiment.config import TokenizerConfig
from models.sentiment.tokenizer import build_vocabulary, make_graph_tokenizer, make_tokenizer

WORDS = [
    "a",
    "the",
    "film",
    "good",
    "bad",
    "n't",
    "do",
    "ca",
    "it",
    "'s",
    "not",
    "great",
    "cafe",
    "!",
    "?",
    ".",
    ",",
    "…",
    "(",
    ")",
    '"',
    "-",
    "10",
    "7",
    "and",
]
CONFIG = TokenizerConfig(vocabulary_size=100, max_tokens=12, head_tokens=4)


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(CONFIG, WORDS)


@pytest.fixture(scope="module")
def graph(tokenizer, tmp_path_factory):
    """The graph tokenizer after saving and loading: what a server runs."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(folder)
    module = make_graph_tokenizer(tokenizer, folder / "vocabulary.txt")
    function = tf.function(module, input_signature=[tf.TensorSpec([None], tf.string)])
    module.serve = function
    tf.saved_model.save(module, str(folder / "saved"))
    return tf.saved_model.load(str(folder / "saved")).serve


def assert_same(tokenizer, graph, texts):
    token_ids, tokens, truncated = (part.numpy() for part in graph(tf.constant(texts, tf.string)))
    expected = tokenizer.encode_batch(texts)
    np.testing.assert_array_equal(token_ids, expected.token_ids)
    np.testing.assert_array_equal(tokens, expected.tokens)
    np.testing.assert_array_equal(truncated, expected.truncated)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's not GREAT!", ["it", "'s", "not", "great", "!"]),
        ("I can't, don't", ["i", "ca", "n't", ",", "do", "n't"]),
        ("do n't it 's", ["do", "n't", "it", "'s"]),
        ("good<br /><br/>bad", ["good", "bad"]),
        ("Café \u201cbad\u201d\u2026", ["cafe", '"', "bad", '"', "\u2026"]),
        ("it\u2019s 7/10 -LRB- a+ -RRB-", ["it", "'s", "7", "10", "(", "a", ")"]),
        ("\u8fd9\u90e8 good\U0001f600", ["\ufffd", "good", "\ufffd"]),
        ("", []),
        (" \t\r\n\u00a0", ["\ufffd"]),
        ("wait.... what", ["wait", "\u2026", "what"]),
    ],
)
def test_words(tokenizer, text, expected):
    assert tokenizer.words(text) == expected


def test_long_text_keeps_head_and_tail(tokenizer):
    text = " ".join(["good"] * 4 + ["film"] * 50 + ["bad"] * 8)
    encoded = tokenizer.encode(text)
    good, film, bad = (WORDS.index(word) + 2 for word in ("good", "film", "bad"))
    assert encoded.ids == [good] * 4 + [bad] * 8
    assert film not in encoded.ids
    assert (encoded.tokens, encoded.truncated) == (62, True)


NASTY = [
    b"",
    b" ",
    b"\x00",
    b"good\x00bad",
    b"\xff\xfe",
    b"\xe4\xb8",
    b"\xe4\xb8good",
    b"\xed\xa0\x80",  # a surrogate
    b"\xf4\x90\x80\x80",  # above U+10FFFF
    b"\xc0\x80",  # an overlong NUL
    "İstanbul ﬁlm ς Σ ẞ".encode(),
    "e\u0301 \u200d \u202e good".encode(),
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 good".encode(),
    "don’t can`t n't 'tis rock'n'roll '".encode(),
    b"<br/><br    /><BR /><br>",
    b"good\x0b\x0c\x1c\x1d\x1e\x1f\x85film",
    "good\u2028film\u2029bad\u3000".encode(),
    b"....!!!???----***",
    b"'s's's n'tn't",
    b"good " * 12,
    b"good " * 13,
]


def test_graph_gives_the_same_ids_for_nasty_text(tokenizer, graph):
    assert_same(tokenizer, graph, NASTY)
    for text in NASTY:
        assert_same(tokenizer, graph, [text])


def test_graph_gives_the_same_ids_for_a_megabyte(tokenizer, graph):
    assert_same(tokenizer, graph, [b"good film n't \xe2\x80\x99 " * 60_000])
    assert_same(tokenizer, graph, [b"a" * 2**20, b"\xff" * 2**20])


pieces = st.one_of(
    st.sampled_from([w.encode() for w in [*WORDS, "<br />", "n't", "'s", "’", "é", "…", "-lrb-"]]),
    st.text(max_size=6).map(str.encode),
    st.binary(max_size=6),
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.lists(pieces, max_size=20).map(b" ".join), min_size=1, max_size=5))
def test_graph_gives_the_same_ids_for_any_bytes(tokenizer, graph, texts):
    assert_same(tokenizer, graph, texts)


def test_vocabulary_is_ranked_by_frequency_then_alphabet():
    texts = [["b", "a", "c"], ["a", "\ufffd", "b"], ["d"]]
    assert build_vocabulary(texts, 5) == ["a", "b", "c"]
