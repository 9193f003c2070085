import csv
import json

import numpy as np
import pytest
import sacrebleu

from models.common.splits import DataError
from models.translation.config import DATES, TINY
from models.translation.data import Pair
from models.translation.dates import make_source
from models.translation.evaluate import (
    evaluate,
    load_pairs_to_evaluate,
    translate_all,
    unseen_dates,
)

PAIRS = [
    Pair("the red house", "la maison rouge"),
    Pair("the red house", "une maison rouge"),
    Pair("the blue door and the green car", "la porte bleue et la voiture verte"),
    Pair("good", "bon"),
]
ANSWERS = {
    "the red house": "une maison rouge",
    "the blue door and the green car": "la porte bleue et une voiture verte",
    "good": "bien",
}


class Dictionary:
    """Answers from a dictionary, in batches."""

    def __init__(self):
        self.batches = []

    def run_signature(self, inputs):
        texts = [text.decode() for text in inputs["text"]]
        self.batches.append(texts)
        return {"translation": np.array([ANSWERS[text].encode() for text in texts], object)}


def test_each_sentence_is_asked_once_and_the_order_is_kept():
    backend = Dictionary()
    texts = list(ANSWERS)
    assert translate_all(backend, texts) == list(ANSWERS.values())
    assert sorted(text for batch in backend.batches for text in batch) == sorted(texts)


def test_scores_are_those_of_sacrebleu(tmp_path):
    metrics = evaluate(Dictionary(), PAIRS, TINY, tmp_path)
    references = [
        ["la maison rouge", "la porte bleue et la voiture verte", "bon"],
        ["une maison rouge", None, None],
    ]
    hypotheses = list(ANSWERS.values())
    assert metrics.bleu == pytest.approx(sacrebleu.corpus_bleu(hypotheses, references).score)
    assert metrics.chrf == pytest.approx(sacrebleu.corpus_chrf(hypotheses, references).score)
    assert metrics.exact_match == pytest.approx(1 / 3)
    assert metrics.n == 3


def test_writes_metrics_translations_and_a_picture(tmp_path):
    metrics = evaluate(Dictionary(), PAIRS, TINY, tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics.as_dict()
    assert (tmp_path / "bleu_by_length.png").stat().st_size > 1000
    with (tmp_path / "translations.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["exact"] for row in rows] == ["1", "0", "0"]
    assert rows[0]["references"] == "la maison rouge | une maison rouge"


def test_reads_the_split_asked_for(tmp_path):
    (tmp_path / "train.tsv").write_text("a\tb\n" * 3, encoding="utf-8")
    (tmp_path / "dev.tsv").write_text("c\td\n", encoding="utf-8")
    assert load_pairs_to_evaluate(tmp_path, TINY, None).pairs == [Pair("c", "d")]
    assert len(load_pairs_to_evaluate(tmp_path, TINY, "all").pairs) == 4
    with pytest.raises(DataError, match="has no test split"):
        load_pairs_to_evaluate(tmp_path, TINY, "test")


def test_unseen_dates_stand_in_no_training_part():
    unseen = {pair.source for pair in unseen_dates(None).pairs}
    assert len(unseen) == 10_000
    trained = {pair.source for pair in make_source(20_000, dev_count=1).splits["train"]}
    assert not unseen & trained
    with pytest.raises(DataError, match="dev split only"):
        unseen_dates("test")
    assert DATES.data == "dates"
