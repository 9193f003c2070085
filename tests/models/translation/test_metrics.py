import json
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu import corpus_bleu, corpus_chrf

from models.translation.metrics import (
    LENGTH_EDGES,
    LengthScore,
    Metrics,
    bleu,
    bleu_by_length,
    chrf,
    compute_metrics,
    exact_match,
    perplexity,
)

# Two references, then one: the sentences worked by hand below.
HYPOTHESES = ["the cat sat on the mat", "a dog runs in the park"]
REFERENCES = [
    ["the cat is on the mat", "there is a cat on the mat"],
    ["a dog runs in the green park today"],
]


def test_bleu_by_hand():
    # First sentence, "the" counted twice as in the first reference; "sat" is in none:
    #   words 5 of 6; "the cat", "on the", "the mat" 3 of 5; "on the mat" 1 of 4; 0 of 3.
    # Second sentence: words 6 of 6; pairs 4 of 5; triples 3 of 4; fours 2 of 3.
    precisions = [11 / 12, 7 / 10, 4 / 8, 2 / 6]
    # 6 + 6 words, against references of 6 (nearer than 7) and 8.
    brevity_penalty = math.exp(1 - 14 / 12)
    expected = 100 * brevity_penalty * math.prod(precisions) ** (1 / 4)
    assert expected == pytest.approx(48.407, abs=1e-3)
    assert bleu(HYPOTHESES, REFERENCES).score == pytest.approx(expected)


def test_bleu_without_a_match_of_some_order_by_hand():
    # Words 3 of 4, pairs 2 of 3, triples 1 of 2, fours 0 of 1, which counts as 1/2 of 1.
    expected = 100 * (3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** (1 / 4)
    assert bleu(["we saw it today"], [["we saw it yesterday"]]).score == pytest.approx(expected)


def test_a_missing_reference_is_not_an_empty_one():
    # An empty second reference would be the nearest to one word, and the brevity penalty gone.
    first = ["a b c d e", "a b c d e"], [["a b c d e", "x"], ["a b c d e"]]
    second = ["x", "a b c d e"], [["a b c d e"], ["a b c d e", "x"]]
    assert bleu(*first).score == pytest.approx(100)
    # Words 5 of 6; pairs, triples and fours all; 1 + 5 words against 5 + 5.
    assert bleu(*second).score == pytest.approx(100 * math.exp(1 - 10 / 6) * (5 / 6) ** (1 / 4))


def test_chrf_of_two_words_by_hand():
    # "abc" against "abcd": single characters P 3/3, R 3/4; pairs P 2/2, R 2/3; triples P 1/1,
    # R 1/2; the hypothesis has no fours, so they do not count.
    precision, recall = 1, (3 / 4 + 2 / 3 + 1 / 2) / 3
    expected = 100 * 5 * precision * recall / (4 * precision + recall)
    assert expected == pytest.approx(100 * 115 / 167)
    assert chrf(["ab c"], [["ab cd"]]).score == pytest.approx(expected)


def test_chrf_takes_the_best_reference_of_each_sentence():
    one = chrf(["ab c", "no"], [["ab cd"], ["no"]])
    several = chrf(["ab c", "no"], [["xyz", "ab cd"], ["no"]])
    assert several.score == pytest.approx(one.score)
    assert several.score < chrf(["ab c", "no"], [["ab c", "ab cd"], ["no"]]).score


def ngrams(tokens, n):
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def papineni(hypotheses, references):
    """BLEU of words parted by spaces, straight from the formula."""
    matches, totals, c, r = [0] * 5, [0] * 5, 0, 0
    for hypothesis, of_sentence in zip(hypotheses, references, strict=True):
        words, others = hypothesis.split(), [reference.split() for reference in of_sentence]
        c += len(words)
        r += min((abs(len(other) - len(words)), len(other)) for other in others)[1]
        for n in range(1, 5):
            found = ngrams(words, n)
            totals[n] += sum(found.values())
            matches[n] += sum(
                min(count, max(ngrams(other, n)[ngram] for other in others))
                for ngram, count in found.items()
            )
    if not matches[1] or not totals[4]:
        return 0.0
    log_sum, share = 0.0, 1.0
    for n in range(1, 5):
        share = share if matches[n] else share / 2
        log_sum += math.log((matches[n] or share) / totals[n])
    return 100 * min(1, math.exp(1 - r / c)) * math.exp(log_sum / 4)


def popovic(hypotheses, references):
    """chrF of one reference a sentence, straight from the formula."""
    precisions, recalls = [], []
    pairs = [
        (h.replace(" ", ""), r.replace(" ", ""))
        for h, (r,) in zip(hypotheses, references, strict=True)
    ]
    for n in range(1, 7):
        found = [ngrams(hypothesis, n) for hypothesis, _ in pairs]
        wanted = [ngrams(reference, n) for _, reference in pairs]
        # An order which one side of a sentence lacks cannot match there.
        hypothesis_total = sum(f.total() for f, w in zip(found, wanted, strict=True) if w)
        reference_total = sum(w.total() for w in wanted)
        both = sum((f & w).total() for f, w in zip(found, wanted, strict=True))
        if hypothesis_total and reference_total:
            precisions.append(both / hypothesis_total)
            recalls.append(both / reference_total)
    if not sum(precisions):
        return 0.0
    p, r = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    return 100 * 5 * p * r / (4 * p + r)


sentences = st.lists(st.sampled_from(["a", "b", "c", "dd"]), min_size=1, max_size=9).map(" ".join)


corpora = st.lists(
    st.tuples(sentences, st.lists(sentences, min_size=1, max_size=3)), min_size=1, max_size=6
)


@given(corpora)
@settings(max_examples=100, deadline=None)
def test_equals_the_formulas_with_any_number_of_references(corpus):
    hypotheses, references = [list(part) for part in zip(*corpus, strict=True)]
    assert bleu(hypotheses, references).score == pytest.approx(papineni(hypotheses, references))
    firsts = [of_sentence[:1] for of_sentence in references]
    assert chrf(hypotheses, firsts).score == pytest.approx(popovic(hypotheses, firsts))


def test_equals_sacrebleu_as_its_readers_call_it():
    hypotheses = ["Le chat dort.", "Il pleut, hélas !", "Bonjour à tous."]
    references = [
        ["Le chat dort."],
        ["Il pleut hélas.", "Il pleut, hélas !", "Hélas, il pleut."],
        ["Bonjour tout le monde.", "Bonjour à vous."],
    ]
    streams = [
        ["Le chat dort.", "Il pleut hélas.", "Bonjour tout le monde."],
        [None, "Il pleut, hélas !", "Bonjour à vous."],
        [None, "Hélas, il pleut.", None],
    ]
    assert bleu(hypotheses, references).score == corpus_bleu(hypotheses, streams).score
    assert chrf(hypotheses, references).score == corpus_chrf(hypotheses, streams).score
    # The order of a sentence's references does not matter.
    turned = [of_sentence[::-1] for of_sentence in references]
    assert bleu(hypotheses, turned) == bleu(hypotheses, references)


def test_signatures_state_the_settings():
    assert bleu(HYPOTHESES, REFERENCES).signature.startswith(
        "nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp|version:2."
    )
    assert bleu(["a"], [["a"]], lowercase=True).signature.startswith("nrefs:1|case:lc|eff:no")
    assert chrf(["a"], [["a", "b"]]).signature.startswith(
        "nrefs:2|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2."
    )


def test_case_matters_unless_told_otherwise():
    hypotheses, references = ["Le Chat dort ici ."], [["le chat dort ici ."]]
    for metric in (bleu, chrf):
        assert metric(hypotheses, references).score < 90
        assert metric(hypotheses, references, lowercase=True).score == pytest.approx(100)
    assert exact_match(hypotheses, references) == 0
    assert exact_match(hypotheses, references, lowercase=True) == 1


def test_exact_match_by_hand():
    references = [["1979-05-03"], ["2014-04-08", "2014-08-04"], ["2023-09-12"], ["1999-01-01"]]
    hypotheses = ["1979-05-03", "2014-08-04", "2023-09-12 ", "1999-01-02"]
    assert exact_match(hypotheses, references) == 2 / 4


def test_nothing_said_scores_nothing():
    assert bleu(["", ""], [["a"], ["b", "c"]]).score == 0
    assert chrf(["", ""], [["a"], ["b", "c"]]).score == 0


def test_perplexity_by_hand():
    # Probabilities 1/2, 1/4, 1/4 and 1/8: the geometric mean of 2, 4, 4 and 8 is 4.
    assert perplexity(math.log(2) + 2 * math.log(4) + math.log(8), 4) == pytest.approx(4)
    assert perplexity(0.0, 3) == 1
    assert perplexity(1e6, 1) == math.inf
    with pytest.raises(ValueError, match="at least one token, got 0"):
        perplexity(1.0, 0)


def test_bleu_by_length_by_hand():
    hypotheses = ["a b c d", "a b c d e", "x x x x", HYPOTHESES[1]]
    references = [["a b c d"], ["a b c d e"], ["a b c d"], REFERENCES[1]]
    scores = bleu_by_length(hypotheses, references, [0, 5, 6, 11], edges=(5, 8, 10))
    # Precisions 1, 4/5, 3/4, 2/3 of six words where eight are wanted; nothing has 9 or 10 tokens.
    last = 100 * math.exp(1 - 8 / 6) * (4 / 5 * 3 / 4 * 2 / 3) ** (1 / 4)
    assert [(s.low, s.high, s.n) for s in scores] == [(0, 5, 2), (6, 8, 1), (11, None, 1)]
    assert [s.bleu for s in scores] == pytest.approx([100, 0, last])


def test_short_sentences_can_be_right():
    hypotheses, references = ["va donc", "oui"], [["va donc"], ["oui"]]
    assert bleu(hypotheses, references).score == 0
    (score,) = bleu_by_length(hypotheses, references, [2, 1])
    assert score == LengthScore(0, LENGTH_EDGES[0], 2, pytest.approx(100))


@given(st.lists(st.integers(0, 60), min_size=1, max_size=30))
@settings(max_examples=30, deadline=None)
def test_every_sentence_is_in_one_range(lengths):
    texts = ["a b c d"] * len(lengths)
    scores = bleu_by_length(texts, [[text] for text in texts], lengths)
    assert sum(score.n for score in scores) == len(lengths)


def test_metrics_as_json():
    metrics = compute_metrics(HYPOTHESES, REFERENCES, perplexity=4.5)
    assert metrics.bleu == bleu(HYPOTHESES, REFERENCES).score
    assert metrics.chrf == chrf(HYPOTHESES, REFERENCES).score
    assert list(json.loads(json.dumps(metrics.as_dict()))) == [
        "bleu",
        "chrf",
        "exact_match",
        "n",
        "bleu_signature",
        "chrf_signature",
        "perplexity",
    ]
    assert (metrics.n, metrics.exact_match, metrics.perplexity) == (2, 0, 4.5)


def test_perplexity_is_left_out_or_null():
    assert "perplexity" not in compute_metrics(["a"], [["a"]]).as_dict()
    assert Metrics(0, 0, 0, 1, "", "", math.inf).as_dict()["perplexity"] is None


@pytest.mark.parametrize("metric", [bleu, chrf, exact_match, compute_metrics])
def test_sentences_that_do_not_fit_are_refused(metric):
    with pytest.raises(ValueError, match=r"2 hypotheses need references .* got 1"):
        metric(["a", "b"], [["a"]])
    with pytest.raises(ValueError, match="no sentences"):
        metric([], [])
    with pytest.raises(ValueError, match=r"references\[1\] .* got \[\]"):
        metric(["a", "b"], [["a"], []])
    with pytest.raises(ValueError, match=r"references\[0\] .* got 'ab'"):
        metric(["a"], ["ab"])


def test_lengths_and_edges_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="1 hypotheses need as many lengths, got 2"):
        bleu_by_length(["a"], [["a"]], [1, 2])
    with pytest.raises(ValueError, match="lengths must be 0 or more, got -1"):
        bleu_by_length(["a"], [["a"]], [-1])
    with pytest.raises(ValueError, match=r"edges must ascend from 0, got \[5, 5\]"):
        bleu_by_length(["a"], [["a"]], [1], edges=(5, 5))
