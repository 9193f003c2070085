"""The weights in the package keep what the model card says."""

from pathlib import Path

import pytest

from models.translation.commands import WEIGHTS
from models.translation.data import load_pairs
from models.translation.evaluate import (
    evaluate,
    load_pairs_to_evaluate,
    translate_all,
    unseen_dates,
)
from models.translation.signature import load_model

BLEU = 50.01
BY_HAND = Path(__file__).parent / "dates_100.tsv"


@pytest.fixture(scope="module")
def en_fr():
    return load_model(WEIGHTS / "en_fr")


@pytest.fixture(scope="module")
def dates():
    return load_model(WEIGHTS / "dates")


def test_weights_are_small():
    size = sum(file.stat().st_size for file in WEIGHTS.rglob("*") if file.is_file())
    assert size < 24 * 2**20


@pytest.mark.parametrize(
    ("english", "french"),
    [
        ("I am happy.", {"Je suis heureux.", "Je suis heureuse.", "Je suis content."}),
        ("Where is the station?", {"Où est la gare ?", "Où se trouve la gare ?"}),
        ("She reads a book.", {"Elle lit un livre."}),
        ("We don't have time.", {"Nous n'avons pas le temps.", "Nous n'avons pas de temps."}),
    ],
)
def test_sentences_are_translated(en_fr, english, french):
    assert translate_all(en_fr, [english])[0] in french


@pytest.mark.slow
@pytest.mark.data("nmt_tatoeba_en_fr")
def test_bleu_is_that_of_the_card(en_fr, data_dir, tmp_path):
    subset = load_pairs_to_evaluate(data_dir / "nmt_tatoeba_en_fr", en_fr.config, "dev")
    metrics = evaluate(en_fr, subset.pairs, en_fr.config, tmp_path)
    assert metrics.n == 997
    assert metrics.bleu == pytest.approx(BLEU, abs=0.1)


def test_dates_written_by_hand_are_all_read(dates):
    pairs = load_pairs(BY_HAND)
    found = translate_all(dates, [pair.source for pair in pairs])
    wrong = [
        (pair.source, answer, pair.target)
        for pair, answer in zip(pairs, found, strict=True)
        if answer != pair.target
    ]
    assert not wrong
    assert len(pairs) == 100


@pytest.mark.slow
def test_dates_never_seen_are_read(dates, tmp_path):
    metrics = evaluate(dates, unseen_dates(None).pairs, dates.config, tmp_path)
    assert metrics.exact_match >= 0.995
