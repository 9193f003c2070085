import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.translation.config import TokenizerConfig
from models.translation.tokenizer import make_graph_tokenizer, train_tokenizer
from protocol.subwords import END_ID, SubwordTokenizer

SENTENCES = (Path(__file__).parent / "sentences.txt").read_text("utf-8").splitlines()
# Pieces that can be formed in more ways than one, and not in the order of their lengths.
OVERLAPPING = ["ab", "aa", "▁ab", "bc", "cd", "abcd", "abc", "▁d", "▁", "a", "b", "c", "d"]
TOKENIZERS = {
    "subwords": lambda: train_tokenizer(SENTENCES, TokenizerConfig(vocabulary_size=400)),
    "lowercase": lambda: train_tokenizer(SENTENCES, TokenizerConfig(lowercase=True, max_tokens=9)),
    "characters": lambda: train_tokenizer(SENTENCES, TokenizerConfig("characters")),
    "overlapping": lambda: SubwordTokenizer(OVERLAPPING, {"x": "", "y": " "}, max_tokens=30),
    "mark only": lambda: SubwordTokenizer(["▁"], {}, max_tokens=1),
}


class Both:
    """A tokenizer on the host, and its graph after saving and loading: what a server runs."""

    def __init__(self, tokenizer, folder):
        self.host = tokenizer
        module = make_graph_tokenizer(tokenizer)
        texts, ids = tf.TensorSpec([None], tf.string), tf.TensorSpec([None, None], tf.int32)
        holder = tf.Module()
        holder.tokenizer = module
        holder.encode = tf.function(module.encode, input_signature=[texts])
        holder.decode = tf.function(module.decode, input_signature=[ids])
        holder.pieces = tf.function(module.pieces, input_signature=[ids])
        tf.saved_model.save(holder, str(folder))
        self.graph = tf.saved_model.load(str(folder))

    def check(self, texts):
        """Asserts that ids, texts and pieces are the same."""
        expected = self.host.encode_batch(texts)
        texts = [t.encode("utf-8", "surrogatepass") if isinstance(t, str) else t for t in texts]
        ids, tokens, truncated = self.graph.encode(tf.constant(texts, tf.string, [len(texts)]))
        np.testing.assert_array_equal(ids, expected.token_ids)
        np.testing.assert_array_equal(tokens, expected.tokens)
        np.testing.assert_array_equal(truncated, expected.truncated)
        assert (ids.dtype, tokens.dtype, truncated.dtype) == (tf.int32, tf.int32, tf.bool)
        self.check_ids(ids.numpy())

    def check_ids(self, ids):
        texts = [text.decode() for text in self.graph.decode(ids).numpy()]
        assert texts == [self.host.decode(row) for row in ids]
        pieces = [[piece.decode() for piece in row] for row in self.graph.pieces(ids).numpy()]
        assert pieces == [self.host.pieces_of(row) for row in ids]


@pytest.fixture(scope="module", params=list(TOKENIZERS), name="both")
def both_fixture(request, tmp_path_factory):
    return Both(TOKENIZERS[request.param](), tmp_path_factory.mktemp("saved"))


NASTY = [
    "",
    " ",
    "\u00a0 \u2009",
    "\0",
    "a\0b",
    "  a  b ",
    b"\xff\xfe",
    b"\xe4\xb8",
    b"\xe4\xb8ab",
    b"\xf4\x90\x80\x80",  # above U+10FFFF
    b"\xc0\x80",  # an overlong NUL
    "\ud800",
    "\ufeffab\ufffe\uffff\U0010ffff",
    "İstanbul ﬁlm ς Σ ẞ",
    "e\u0301 \u200d \u202e ab",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 ab",
    "▁ab ▁ _ ▁▁",
    "ab\v\f\x1c\x1d\x1e\x1f\x85cd",
    "\u2028a\u2029b\u3000",
    "aaaaaaa aaa aa a",
    "abcd babc dabcd cdabc",
    "xabx y xay",
    "l\u2019\u00e9t\u00e9 \u201cbeau\u201d",
    "漢字かな交じり文",
    "abcd " * 40,
]


def test_nasty_texts(both):
    both.check(NASTY)
    for text in NASTY:
        both.check([text])


@pytest.mark.parametrize("length", [47, 48, 49, 95, 96, 97, 1000])
def test_long_words(both, length):
    word = ("abcddaab" * 125)[:length]
    both.check([word, f"a {word} {word}", f"\u00e9{word}", f"{word[:46]}\u200bx\u2019{word}"])


def test_sentences(both):
    both.check(SENTENCES)


def test_empty_batch(both):
    both.check([])
    ids, tokens, truncated = both.graph.encode(tf.zeros([0], tf.string))
    assert (ids.shape, tokens.shape, truncated.shape) == ([0, 1], [0], [0])
    assert both.graph.decode(tf.zeros([0, 5], tf.int32)).shape == [0]
    assert both.graph.decode(tf.zeros([3, 0], tf.int32)).numpy().tolist() == [b""] * 3


WORDS = st.text(st.sampled_from("abcd"), max_size=60).map(str.encode)
SNIPPETS = st.one_of(
    WORDS, st.sampled_from(SENTENCES).map(str.encode), st.text().map(str.encode), st.binary()
)
TEXTS = st.lists(SNIPPETS, max_size=4).map(b" ".join) | st.lists(SNIPPETS, max_size=4).map(b"".join)


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(TEXTS, max_size=5))
def test_any_bytes(both, texts):
    both.check(texts)


@settings(deadline=None)
@given(data=st.data(), width=st.integers(0, 8))
def test_any_ids(both, data, width):
    ids = st.integers(0, both.host.vocabulary_size - 1)
    rows = data.draw(st.lists(st.lists(ids, min_size=width, max_size=width), max_size=4))
    both.check_ids(np.array(rows, np.int32).reshape(len(rows), width))


def test_known_text_comes_back():
    tokenizer = TOKENIZERS["subwords"]()
    graph = make_graph_tokenizer(tokenizer)
    token_ids, _, _ = graph.encode(tf.constant(SENTENCES))
    texts = [text.decode() for text in graph.decode(token_ids).numpy()]
    assert texts == [tokenizer.normalize(sentence) for sentence in SENTENCES]


def test_ids_of_any_rank():
    tokenizer = TOKENIZERS["overlapping"]()
    graph = make_graph_tokenizer(tokenizer)
    ids = tokenizer.encode("d ab").ids
    assert graph.decode(tf.constant(ids)).numpy() == b"d ab"
    assert graph.decode(tf.constant([[ids], [[0, 4, END_ID]]])).numpy().tolist() == [
        [b"d ab"],
        [b""],
    ]


@pytest.mark.parametrize("unfit", [-1, 17])
def test_ids_outside_the_vocabulary(unfit):
    graph = make_graph_tokenizer(TOKENIZERS["overlapping"]())
    for method in (graph.decode, graph.pieces):
        with pytest.raises(tf.errors.InvalidArgumentError):
            method(tf.constant([[unfit]]))


@pytest.mark.parametrize("unit", [b"abcd d ", b"a", b" ", b"abcddaab" * 6 + b" ", b"\xff"])
def test_long_texts_take_linear_time(unit):
    tokenizer = TOKENIZERS["overlapping"]()
    encode = tf.function(make_graph_tokenizer(tokenizer).encode)
    text = (unit * 100_000)[:100_000]
    start = time.perf_counter()
    token_ids, tokens, truncated = encode(tf.constant([text]))
    assert time.perf_counter() - start < 20  # quadratic time would take minutes
    expected = tokenizer.encode(text)
    assert token_ids.numpy().tolist() == [expected.ids]
    assert (tokens.numpy(), truncated.numpy()) == ([expected.tokens], [expected.truncated])
