"""The weights in the package keep what the model card says."""

from pathlib import Path

import pytest

from models.translation.commands import WEIGHTS
from models.translation.data import load_pairs
from models.translation.evaluate import evaluate, translate_all, unseen_dates
from models.translation.signature import load_model

BY_HAND = Path(__file__).parent / "dates_100.tsv"


@pytest.fixture(scope="module")
def dates():
    return load_model(WEIGHTS / "dates")


def test_weights_are_small():
    size = sum(file.stat().st_size for file in WEIGHTS.rglob("*") if file.is_file())
    assert size < 24 * 2**20


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
