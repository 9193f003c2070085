from models.translation.data import build_corpus, check_leakage
from models.translation.synthetic import make_pairs, make_source


def test_the_same_seed_gives_the_same_pairs():
    assert make_pairs(50, seed=1) == make_pairs(50, seed=1)
    assert make_pairs(50, seed=1) != make_pairs(50, seed=2)


def test_adjectives_follow_their_nouns():
    pairs = {pair.source: pair.target for pair in make_pairs(1000, seed=1)}
    assert pairs["the red house"] == "la maison rouge"
    assert all(len(s.split()) == len(t.split()) for s, t in pairs.items())


def test_no_sentence_stands_on_both_sides():
    corpus = build_corpus([make_source(200, 40)])
    check_leakage(corpus)
    assert len(corpus.train) == 200
    assert len(corpus.dev["synthetic"]) == 40
    assert corpus.dropped == {"synthetic": 0}
