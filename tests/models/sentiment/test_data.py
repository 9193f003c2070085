import gzip

import numpy as np
import pytest

from models.common.splits import DataError
from models.sentiment.data import (
    BatchSequence,
    Corpus,
    EncodedExample,
    Example,
    bucket_length,
    build_corpus,
    check_leakage,
    find_splits,
    load_examples,
    load_source,
    normalised,
)

LABELS = ("negative", "positive")


def write(folder, name, text):
    path = folder / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["train.tsv", "train.tsv.gz"])
def test_tsv_keeps_quotes_as_they_are(tmp_path, name):
    path = write(tmp_path, name, 'text\tlabel\n"So good" he said\t1\nbad\tnegative\n')
    assert load_examples(path, LABELS) == [Example('"So good" he said', 1), Example("bad", 0)]


def test_csv_may_quote_and_order_its_columns(tmp_path):
    path = write(tmp_path, "train.csv", 'id,label,text\n7,1,"Good, really\ngood"\n')
    assert load_examples(path, LABELS) == [Example("Good, really\ngood", 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text\tlabel\ngood\t1\nbad\t2\n", r"train\.tsv:3: unknown label '2'; expected 0 or neg"),
        ("text\tlabel\n  \t1\n", r"train\.tsv:2: empty text"),
        ("text\tlabel\ngood\t1\textra\n", r"train\.tsv:2: expected 2 columns, got 3"),
        ("sentence\tlabel\ngood\t1\n", r"train\.tsv:1: header must name the columns text and"),
        ("text\tlabel\n", r"train\.tsv: no examples"),
        ("", r"train\.tsv:1: header"),
    ],
)
def test_errors_name_file_and_line(tmp_path, text, message):
    path = write(tmp_path, "train.tsv", text)
    with pytest.raises(DataError, match=message):
        load_examples(path, LABELS)


def test_truncated_gzip_and_wrong_encoding_are_named(tmp_path):
    path = write(tmp_path, "train.tsv.gz", "text\tlabel\n" + "good film\t1\n" * 1000)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"train\.tsv\.gz: cannot be read"):
        load_examples(path, LABELS)
    latin = tmp_path / "dev.tsv"
    latin.write_bytes("text\tlabel\ncaf\xe9\t1\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"dev\.tsv: cannot be read"):
        load_examples(latin, LABELS)


def test_folder_layout(tmp_path):
    with pytest.raises(DataError, match="no such data folder"):
        find_splits(tmp_path / "missing")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"expected train, dev .* found: notes\.txt"):
        find_splits(tmp_path)
    write(tmp_path, "val.csv", "")
    assert set(find_splits(tmp_path)) == {"dev"}
    write(tmp_path, "dev.tsv", "")
    with pytest.raises(DataError, match="two files for dev"):
        find_splits(tmp_path)


def test_dev_is_held_out_of_train_where_there_is_none(tmp_path):
    lines = "".join(f"film number {i}\t{i % 2}\n" for i in range(1000))
    write(tmp_path, "train.tsv", "text\tlabel\n" + lines)
    source = load_source(tmp_path, LABELS, 0.2)
    assert len(source.splits["train"]) + len(source.splits["dev"]) == 1000
    assert 150 < len(source.splits["dev"]) < 250
    (tmp_path / "other").mkdir()
    write(
        tmp_path / "other", "train.tsv", "text\tlabel\n" + "".join(reversed(lines.splitlines(True)))
    )
    again = load_source(tmp_path / "other", LABELS, 0.2)
    assert set(again.splits["dev"]) == set(source.splits["dev"])


def test_copies_of_evaluation_texts_leave_the_training_set(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    write(tmp_path / "first", "train.tsv", "text\tlabel\nA good film.\t1\nBad !\t0\nso so\t0\n")
    write(tmp_path / "first", "dev.tsv", "text\tlabel\nfine\t1\n")
    write(tmp_path / "second", "train.tsv", "text\tlabel\nbad\t0\nFINE\t1\nnew\t1\n")
    write(tmp_path / "second", "dev.tsv", "text\tlabel\nold\t1\n")
    write(tmp_path / "second", "test.tsv", "text\tlabel\na  good film\t1\n")
    sources = [load_source(tmp_path / name, LABELS, 0.2) for name in ("first", "second")]
    corpus = build_corpus(sources)
    assert [e.text for e in corpus.train] == ["Bad !", "so so", "new"]
    assert corpus.dropped == {"first": 1, "second": 2}
    check_leakage(corpus)


def test_leakage_check_finds_a_planted_copy():
    corpus = Corpus([Example("Good film!", 1)], {"dev": [Example("good film", 1)]}, {}, {})
    with pytest.raises(DataError, match="1 training texts also stand in the dev split of dev"):
        check_leakage(corpus)


def test_normalised_ignores_style():
    assert normalised("It 's GOOD , really .") == normalised("it's good, really")


def test_batches_are_padded_to_few_lengths():
    examples = [EncodedExample(np.arange(1, n + 1, dtype=np.int32), n % 2) for n in range(1, 80)]
    batches = BatchSequence(examples, ["logits"], batch_size=8, seed=0)
    rows = 0
    for index in range(len(batches)):
        token_ids, targets, weights = batches[index]
        assert token_ids.dtype == np.int32
        assert token_ids.shape[0] == 8
        assert token_ids.shape[1] in (16, 32, 64, 128)
        lengths = (token_ids != 0).sum(axis=1)
        np.testing.assert_array_equal(weights["logits"], (lengths > 0).astype(np.float32))
        used = lengths > 0
        np.testing.assert_array_equal(targets["logits"][used], lengths[used] % 2)
        rows += int(used.sum())
    assert rows == len(examples)


def test_first_two_batches_differ_in_length():
    short = [EncodedExample(np.ones(3, np.int32), 0)] * 50
    long = [EncodedExample(np.ones(200, np.int32), 0)]
    for seed in range(5):
        batches = BatchSequence([*short, *long], ["logits"], batch_size=4, seed=seed)
        assert batches[0][0].shape != batches[1][0].shape


def test_order_changes_by_epoch_and_repeats_with_the_seed():
    examples = [EncodedExample(np.full(5, n + 1, np.int32), 0) for n in range(64)]

    def epoch(batches):
        return np.concatenate([batches[i][0][:, 0] for i in range(len(batches))]).tolist()

    one, two = (BatchSequence(examples, ["logits"], 8, seed=3) for _ in range(2))
    first = epoch(one)
    assert first == epoch(two)
    one.on_epoch_end()
    assert epoch(one) != first
    assert sorted(epoch(one)) == sorted(first)


def test_crops_join_long_texts():
    examples = [EncodedExample(np.arange(1, 101, dtype=np.int32), 1)] * 20
    batches = BatchSequence(examples, ["logits"], 4, seed=0, crop_probability=1.0)
    rows = sum(int(batches[i][2]["logits"].sum()) for i in range(len(batches)))
    assert rows == 40


@pytest.mark.parametrize(("length", "expected"), [(1, 16), (16, 16), (17, 32), (1025, 2048)])
def test_bucket_length(length, expected):
    assert bucket_length(length) == expected


@pytest.mark.data("sent_imdb", "sent_sst2", "sent_mr")
def test_shared_sets_load_without_leakage(data_dir):
    names = ("sent_imdb", "sent_sst2", "sent_mr")
    sources = [load_source(data_dir / name, LABELS, 0.2) for name in names]
    corpus = build_corpus(sources)
    check_leakage(corpus)
    assert len(corpus.train) > 25_000
    assert 4_500 < len(corpus.dev["sent_imdb"]) < 5_500
    assert len(corpus.dev["sent_sst2"]) == 872
    assert len(corpus.dev["sent_mr"]) == 992
