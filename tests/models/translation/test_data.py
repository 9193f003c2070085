import gzip
from collections import Counter
from functools import partial

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.common.splits import DataError
from models.translation.data import (
    BatchSequence,
    Corpus,
    EncodedPair,
    Item,
    Pair,
    Source,
    batch_rows,
    build_corpus,
    check_leakage,
    choose_shapes,
    encode_pairs,
    find_splits,
    load_pairs,
    load_source,
    normalised,
    references,
)
from protocol.subwords import END_ID, START_ID, WORD_START, SubwordTokenizer

LANGUAGES = ("de", "en")
DE_EN = partial(load_source, languages=LANGUAGES, dev_fraction=0.2)


def write(folder, name, text):
    folder.mkdir(exist_ok=True)
    path = folder / name
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("name", ["train.tsv", "train.tsv.gz"])
def test_tsv_keeps_quotes_and_drops_further_columns(tmp_path, name):
    path = write(tmp_path, name, 'No "way"!\tImpossible !\tCC BY\r\n Run! \t Cours\u202f!\n')
    assert load_pairs(path) == [Pair('No "way"!', "Impossible !"), Pair("Run!", "Cours\u202f!")]


def test_only_a_line_feed_ends_an_aligned_line(tmp_path):
    de = write(tmp_path, "train.de", "Ein\u2028Hund.\nZwei\tKatzen.\n")
    en = write(tmp_path, "train.en.gz", "\ufeffA dog.\nTwo cats.")
    assert load_pairs(de, en) == [
        Pair("Ein\u2028Hund.", "A dog."),
        Pair("Zwei\tKatzen.", "Two cats."),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Go.\tVa !\nRun!\n", r"train\.tsv:2: expected source, tab, target; got 'Run!"),
        ("Go.\tVa !\n\nRun!\tCours !\n", r"train\.tsv:2: empty sentence"),
        ("Go.\tVa !\n\t\n", r"train\.tsv:2: empty sentence"),
        ("Go.\t \n", r"train\.tsv:1: empty sentence"),
        (" \tVa !\n", r"train\.tsv:1: empty sentence"),
        ("", r"train\.tsv: no pairs"),
        ("Go.\tVa !\nCaf\xe9\tCaf\xe9\n".encode("latin-1"), r"train\.tsv:2: not UTF-8: .* 0xe9"),
    ],
)
def test_tsv_errors_name_file_and_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        load_pairs(write(tmp_path, "train.tsv", text))


def test_aligned_errors_name_files_and_lines(tmp_path):
    de = write(tmp_path, "train.de", "Ein Hund.\n \nZwei Katzen.\n")
    with pytest.raises(DataError, match=r"train\.de has 3 lines, .*train\.en has 2"):
        load_pairs(de, write(tmp_path, "train.en", "A dog.\nTwo cats.\n"))
    with pytest.raises(DataError, match=r"train\.de:2: empty sentence"):
        load_pairs(de, write(tmp_path, "train.en", "A dog.\nA\nTwo cats.\n"))
    with pytest.raises(DataError, match=r"nothing\.en: cannot be read"):
        load_pairs(de, tmp_path / "nothing.en")


def test_damaged_gzip_is_named(tmp_path):
    path = write(tmp_path, "train.tsv.gz", "Go.\tVa !\n" * 1000)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"train\.tsv\.gz: cannot be read"):
        load_pairs(path)
    path.write_bytes(path.read_bytes()[:15] + b"\xff" * 10)
    with pytest.raises(DataError, match=r"train\.tsv\.gz: cannot be read"):
        load_pairs(path)


def test_folder_layouts(tmp_path):
    for name in ("train.de", "train.en", "train.fr", "val.de.gz", "val.en", "_about.txt"):
        write(tmp_path, name, "")
    for name in ("test_2016.de", "test_2016.en", "test_2017.de", "test_2017.en", "test.tsv"):
        write(tmp_path, name, "")
    splits = find_splits(tmp_path, LANGUAGES)
    assert {name: [[p.name for p in files] for files in s] for name, s in splits.items()} == {
        "train": [["train.de", "train.en"]],
        "dev": [["val.de.gz", "val.en"]],
        "test": [["test.tsv"], ["test_2016.de", "test_2016.en"], ["test_2017.de", "test_2017.en"]],
    }


def test_languages_choose_the_direction(tmp_path):
    write(tmp_path, "train.de", "Hund\n")
    write(tmp_path, "train.en", "dog\n")
    source = load_source(tmp_path, ("en", "de"), 0.0)
    assert source.splits["train"] == [Pair("dog", "Hund")]


def test_folder_errors_say_what_is_there(tmp_path):
    with pytest.raises(DataError, match="no such data folder"):
        find_splits(tmp_path / "missing", LANGUAGES)
    with pytest.raises(DataError, match=r"expected train, .* \.de and \.en, .* found: nothing"):
        find_splits(tmp_path, LANGUAGES)
    write(tmp_path, "train.fr", "")
    with pytest.raises(DataError, match=r"found: train\.fr"):
        find_splits(tmp_path, LANGUAGES)
    write(tmp_path, "train.de", "")
    with pytest.raises(DataError, match=r"one file train\.en, .* got none; found: train\.de, tr"):
        find_splits(tmp_path, LANGUAGES)
    write(tmp_path, "train.en", "")
    write(tmp_path, "train.en.gz", "")
    with pytest.raises(DataError, match=r"one file train\.en, .* got train\.en, train\.en\.gz"):
        find_splits(tmp_path, LANGUAGES)
    (tmp_path / "train.en.gz").unlink()
    write(tmp_path, "train.tsv", "")
    with pytest.raises(DataError, match=r"two files for train: train\.tsv, train\.de"):
        find_splits(tmp_path, LANGUAGES)


def test_source_joins_test_files_and_counts_what_it_read(tmp_path):
    write(tmp_path, "train.tsv", "a\tb\nc\td\n")
    write(tmp_path, "dev.tsv", "e\tf\n")
    write(tmp_path, "test_1.tsv", "g\th\n")
    write(tmp_path, "test_2.tsv", "i\tj\n")
    source = DE_EN(tmp_path)
    assert source.splits["test"] == [Pair("g", "h"), Pair("i", "j")]
    assert source.notes == {"train.tsv": 2, "dev.tsv": 1, "test_1.tsv": 1, "test_2.tsv": 1}
    digest = source.digest
    write(tmp_path, "test_2.tsv", "i\tk\n")
    assert DE_EN(tmp_path).digest != digest


def test_dev_is_held_out_by_sentence_where_there_is_none(tmp_path):
    lines = "".join(f"Say {i}!\tDis {i} !\nsay {i}\tDites {i} !\n" for i in range(1000))
    write(tmp_path / "one", "train.tsv", lines)
    source = DE_EN(tmp_path / "one")
    train, dev = source.splits["train"], source.splits["dev"]
    assert len(train) + len(dev) == 2000
    assert 300 < len(dev) < 500
    assert source.notes == {"train.tsv": 2000, "held out as dev": len(dev)}
    assert not {normalised(p.source) for p in train} & {normalised(p.source) for p in dev}
    write(tmp_path / "two", "train.tsv", "".join(reversed(lines.splitlines(True))))
    assert set(DE_EN(tmp_path / "two").splits["dev"]) == set(dev)


def test_pairs_of_evaluation_sentences_leave_the_training_set():
    first = Source(
        "first",
        {
            "train": [Pair("Go.", "Va !"), Pair("Go.", "Allez !"), Pair("Go.", "Va !")],
            "dev": [Pair("Fine!", "Bien !")],
        },
        "1",
    )
    second = Source(
        "second",
        {
            "train": [
                Pair("fine", "bien"),
                Pair("Go.", "Va !"),
                Pair("go", "va"),
                Pair("run", ""),
            ],
            "test": [Pair("Run?", "Courir ?")],
        },
        "2",
    )
    corpus = build_corpus([first, second])
    assert corpus.train == [Pair("Go.", "Va !"), Pair("Go.", "Allez !"), Pair("go", "va")]
    assert corpus.dev == {"first": first.splits["dev"]}
    assert corpus.dropped == {"first": 1, "second": 3}
    assert corpus.digests == {"first": "1", "second": "2"}
    check_leakage(corpus)
    with pytest.raises(DataError, match="needs a train and a dev split; sources: second"):
        build_corpus([second])


def test_leakage_check_finds_a_planted_copy():
    corpus = Corpus([Pair("Good day!", "Bonjour !")], {"d": [Pair("good day", "salut")]}, {}, {})
    with pytest.raises(DataError, match="1 training sentences also stand in the dev split of d"):
        check_leakage(corpus)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("It 's GOOD , really .", "it's good, really", True),
        ("cafe\u0301 Straße", "Café STRASSE!", True),
        ("In 1990 , five", "in 1990, five", True),
        ("09/12/23", "09.12.23", False),
        ("a 1, b", "a 1 b", True),
        ("?!", "!?", False),
    ],
)
def test_normalised_ignores_style(one, other, same):
    assert (normalised(one) == normalised(other)) == same


def test_references_group_repeated_sentences_in_order():
    pairs = [Pair("Go.", "Va !"), Pair("Run!", "Cours !"), Pair("Go.", "Allez !")]
    assert references(pairs) == [Item("Go.", ("Va !", "Allez !")), Item("Run!", ("Cours !",))]


def test_encoding_counts_what_it_leaves_out():
    tokenizer = SubwordTokenizer([WORD_START, "a", "b", "ab"], {"-": ""}, max_tokens=8)
    pairs = [
        Pair("ab", "b a"),
        Pair("a b a b", "a"),
        Pair("a", "abababababababab"),
        Pair("a", "-"),
        Pair("a", "a a a"),
    ]
    encoded, skipped = encode_pairs(pairs, tokenizer, max_ratio=2.0)
    assert skipped == {"over_long": 2, "empty": 1, "uneven": 1}
    assert [(p.source_ids.tolist(), p.target_ids.tolist()) for p in encoded] == [
        ([4, 7, END_ID], [4, 6, 4, 5, END_ID])
    ]
    assert encoded[0].source_ids.dtype == encoded[0].target_ids.dtype == np.int32
    assert len(encode_pairs(pairs, tokenizer).encoded) == 2


def make_pair(source_length, target_length, piece=4):
    source = np.full(source_length, piece, np.int32)
    target = np.full(target_length, piece + 1, np.int32)
    source[-1] = target[-1] = END_ID
    return EncodedPair(source, target)


def make_pairs(count=500, seed=0):
    """Pairs whose pieces tell them apart, of lengths as in real text."""
    random = np.random.default_rng(seed)
    source_lengths = random.geometric(0.1, count) + 1
    target_lengths = np.maximum(2, source_lengths + random.integers(-3, 6, count))
    lengths = zip(source_lengths, target_lengths, strict=True)
    return [make_pair(s, t, piece) for piece, (s, t) in enumerate(lengths, start=4)]


def batches_of(sequence):
    return [sequence[i] for i in range(len(sequence))]


def first_pieces(sequence):
    """First piece of every source, in the order of reading."""
    return [int(i) for inputs, _ in batches_of(sequence) for i in inputs["source_ids"][:, 0]]


def test_a_batch_is_what_teacher_forcing_reads():
    pairs = [
        EncodedPair(np.array([7, END_ID], np.int32), np.array([8, 9, 8, 9, END_ID], np.int32)),
        EncodedPair(np.array([END_ID], np.int32), np.array([END_ID], np.int32)),
    ]
    batches = BatchSequence(pairs, batch_tokens=36, max_shapes=1)
    assert len(batches) == 1
    inputs, targets = batches[0]
    assert {a.dtype for a in [*inputs.values(), *targets.values()]} == {np.dtype(np.int32)}
    np.testing.assert_array_equal(
        inputs["source_ids"], [[7, END_ID, 0, 0], [END_ID, 0, 0, 0], [END_ID, 0, 0, 0]]
    )
    np.testing.assert_array_equal(
        inputs["target_in"],
        [[START_ID, 8, 9, 8, 9, 0, 0, 0], [START_ID] + [0] * 7, [START_ID] + [0] * 7],
    )
    np.testing.assert_array_equal(
        targets["logits"], [[8, 9, 8, 9, END_ID, 0, 0, 0], [END_ID] + [0] * 7, [0] * 8]
    )


lengths = st.tuples(st.integers(1, 70), st.integers(1, 70))


@settings(deadline=None, max_examples=50)
@given(
    st.lists(lengths, min_size=1, max_size=60),
    st.integers(20, 800),
    st.integers(1, 10),
    st.none() | st.integers(0, 5),
)
def test_each_pair_is_read_once_an_epoch_in_few_shapes(lengths, batch_tokens, max_shapes, seed):
    pairs = [make_pair(s, t, piece) for piece, (s, t) in enumerate(lengths, start=4)]
    batches = BatchSequence(pairs, batch_tokens, seed, max_shapes)
    expected = Counter((p.source_ids.tobytes(), p.target_ids.tobytes()) for p in pairs)
    for _ in range(2):
        seen, shapes = Counter(), set()
        for inputs, targets in batches_of(batches):
            source_ids, logits = inputs["source_ids"], targets["logits"]
            (rows, S), T = source_ids.shape, logits.shape[1]
            assert inputs["target_in"].shape == logits.shape == (rows, T)
            assert S % 4 == T % 4 == 0
            assert rows <= batch_rows(batch_tokens, S + T)
            shapes.add((rows, S, T))
            for source, target in zip(source_ids, logits, strict=True):
                if target.any():
                    seen[source[source != 0].tobytes(), target[target != 0].tobytes()] += 1
        assert seen == expected
        assert shapes == set(batches.shapes)
        assert len({shape[1:] for shape in shapes}) == len(shapes) <= max_shapes
        batches.on_epoch_end()


@pytest.mark.parametrize(
    ("tokens", "length", "rows"), [(3000, 24, 120), (3000, 48, 56), (3000, 400, 7), (300, 400, 1)]
)
def test_batch_rows(tokens, length, rows):
    assert batch_rows(tokens, length) == rows


def test_shapes_are_joined_until_few_are_left():
    lengths = np.array([(3, 4)] * 1000 + [(9, 4)] * 100 + [(9, 9)] * 16 + [(90, 90)] * 16)
    many = choose_shapes(lengths, 400, max_shapes=9)
    assert np.unique(many, axis=0).tolist() == [[4, 4], [12, 4], [12, 12], [92, 92]]
    # The second shape computes 8 tokens a pair more than before: the cheapest way to lose one ...
    few = choose_shapes(lengths[1000:], 400, max_shapes=2)
    assert np.unique(few, axis=0).tolist() == [[12, 12], [92, 92]]
    # ... but a batch that would be almost empty is joined with another in any case.
    rare = choose_shapes(np.array([(12, 12)] * 15 + [(12, 8)]), 400, max_shapes=9)
    assert np.unique(rare, axis=0).tolist() == [[12, 12]]


def test_padding_is_stated_and_little():
    batches = BatchSequence(make_pairs(5000), 2000)
    read = [
        ids
        for inputs, targets in batches_of(batches)
        for ids in (inputs["source_ids"], targets["logits"])
    ]
    # The END of an empty sentence, which fills batches up, is padding too.
    fillers = sum(int((~ids.any(axis=1)).sum()) for ids in read[1::2])
    used = sum(np.count_nonzero(ids) for ids in read) - fillers
    assert batches.padding_share == pytest.approx(1 - used / sum(ids.size for ids in read))
    assert batches.padding_share < 0.25
    assert len(batches.shapes) <= 24


def test_order_depends_on_seed_and_epoch_alone():
    pairs = make_pairs()
    one, two = (BatchSequence(pairs, 400, seed=3) for _ in range(2))
    first = first_pieces(one)
    assert first == first_pieces(two)
    one.on_epoch_end()
    assert first_pieces(one) != first
    assert sorted(first_pieces(one)) == sorted(first)
    assert first_pieces(one) == first_pieces(BatchSequence(pairs, 400, seed=3, epoch=1))
    assert first_pieces(BatchSequence(pairs, 400, seed=4)) != first


def test_without_a_seed_the_order_is_kept():
    pairs = [make_pair(5, 5, piece) for piece in range(4, 68)]
    batches = BatchSequence(pairs, 160)
    assert first_pieces(batches) == list(range(4, 68))
    batches.on_epoch_end()
    assert first_pieces(batches) == list(range(4, 68))


@pytest.mark.parametrize("seed", range(5))
def test_first_two_batches_differ_in_both_lengths(seed):
    pairs = [make_pair(4, 4)] * 400 + [make_pair(4, 40)] * 100 + [make_pair(40, 4)] * 100
    batches = BatchSequence(pairs, 400, seed)
    (one, _), (two, _) = batches[0], batches[1]
    assert one["source_ids"].shape[1] != two["source_ids"].shape[1]
    assert one["target_in"].shape[1] != two["target_in"].shape[1]


def test_keras_reads_all_shapes():
    source = keras.Input([None], dtype="int32", name="source_ids")
    target = keras.Input([None], dtype="int32", name="target_in")
    mean = keras.layers.GlobalAveragePooling1D(keepdims=True)
    logits = keras.layers.Dense(600, name="logits")(
        keras.layers.Embedding(600, 4)(target) + mean(keras.layers.Embedding(600, 4)(source))
    )
    model = keras.Model({"source_ids": source, "target_in": target}, {"logits": logits})
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    model.compile("sgd", loss)
    batches = BatchSequence(make_pairs(200), 400, seed=0)
    assert len(batches.shapes) > 5
    history = model.fit(batches, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_no_pairs_no_batches():
    with pytest.raises(DataError, match="at least one encoded pair"):
        BatchSequence([], 400)


@pytest.mark.slow
@pytest.mark.data("nmt_tatoeba_en_fr", "nmt_multi30k")
@pytest.mark.parametrize(
    ("name", "languages", "pairs", "dev_pairs", "dev_sentences"),
    [
        ("nmt_tatoeba_en_fr", ("en", "fr"), 137_885, 1_435, 997),
        ("nmt_multi30k", ("de", "en"), 29_000, 1_014, 1_014),
    ],
)
def test_shared_sets_make_few_shapes(data_dir, name, languages, pairs, dev_pairs, dev_sentences):
    source = load_source(data_dir / name, languages, 0.02)
    assert len(source.splits["train"]) == pairs
    assert len(source.splits["dev"]) == dev_pairs
    assert len(references(source.splits["dev"])) == dev_sentences
    corpus = build_corpus([source])
    check_leakage(corpus)
    assert pairs - 20 < len(corpus.train) < pairs
    by_words = [
        make_pair(len(p.source.split()) + 1, len(p.target.split()) + 1) for p in corpus.train[::5]
    ]
    batches = BatchSequence(by_words, 3000, seed=1)
    assert len(batches.shapes) <= 24
    assert batches.padding_share < 0.2
