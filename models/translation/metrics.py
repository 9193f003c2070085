"""Metrics of translations: BLEU and chrF by sacrebleu, exact match, perplexity.

A sentence may have any number of references, but one at least.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise, zip_longest
from typing import Any

from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

LENGTH_EDGES = (5, 10, 15, 20, 30, 40)
"""Longest sentence, in tokens, of each range by which BLEU is reported; a last one has no end."""


@dataclass(frozen=True)
class Score:
    """A corpus score in 0..100, and sacrebleu's signature: all settings needed to repeat it."""

    score: float
    signature: str


@dataclass(frozen=True)
class LengthScore:
    """BLEU of the sentences of `low` to `high` tokens, both included.

    Attributes:
        low: fewest tokens.
        high: most tokens; None for no limit.
        n: sentences of such lengths, at least 1.
        bleu: 0..100.
    """

    low: int
    high: int | None
    n: int
    bleu: float


@dataclass(frozen=True)
class Metrics:
    """What `evaluate` prints.

    Attributes:
        bleu: 0..100.
        chrf: 0..100.
        exact_match: share of sentences, 0..1.
        n: sentences.
        bleu_signature: settings of BLEU.
        chrf_signature: settings of chrF.
        perplexity: by target token, end included; None where it was not measured.
    """

    bleu: float
    chrf: float
    exact_match: float
    n: int
    bleu_signature: str
    chrf_signature: str
    perplexity: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns the figures by name, perplexity only if measured; None if it is not finite."""
        figures = asdict(self)
        if self.perplexity is None:
            del figures["perplexity"]
        elif not math.isfinite(self.perplexity):
            figures["perplexity"] = None  # JSON has no infinity
        return figures


def compute_metrics(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    lowercase: bool = False,
    perplexity: float | None = None,
) -> Metrics:
    """Computes all metrics; arguments as in `bleu`, perplexity from `perplexity`."""
    bleu_score = bleu(hypotheses, references, lowercase)
    chrf_score = chrf(hypotheses, references, lowercase)
    return Metrics(
        bleu=bleu_score.score,
        chrf=chrf_score.score,
        exact_match=exact_match(hypotheses, references, lowercase),
        n=len(hypotheses),
        bleu_signature=bleu_score.signature,
        chrf_signature=chrf_score.signature,
        perplexity=perplexity,
    )


def bleu(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], lowercase: bool = False
) -> Score:
    """Measures how many word sequences of the hypotheses stand in the references.

        BLEU = 100 * BP * exp(sum over n = 1..4 of 1/4 * ln p_n)
        BP = 1 if c > r, else exp(1 - r / c)

    p_n is the precision of n-grams, counted over all sentences together: those of a hypothesis
    that stand in one of its references, each at most as often as in the reference that has it
    most, divided by all n-grams of the hypotheses. BP, the brevity penalty, stands in for recall:
    c counts the tokens of the hypotheses; r adds up, for each sentence, the length of the
    reference nearest in length, the shorter of two equally near.

    Tokens are those of mteval-v13a, which parts punctuation from words. An order without any
    match counts as half, quarter, ... a match, the divisor doubling with each such order (Chen
    and Cherry 2014, method 3). Without any match, or if no hypothesis has four tokens, BLEU is 0.

    Args:
        hypotheses: [N], translations to judge, as a reader sees them.
        references: [N], good translations of each sentence.
        lowercase: whether letters that differ in case alone are the same.

    Raises:
        ValueError: without sentences, for different numbers of hypotheses and of sentences with
            references, for a sentence without references.

    Source: Papineni et al. 2002, "BLEU: a Method for Automatic Evaluation of Machine
    Translation", section 2.3; Post 2018, "A Call for Clarity in Reporting BLEU Scores", for
    tokens and signature.
    """
    return _measure(BLEU(lowercase=lowercase), hypotheses, references)


def chrf(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], lowercase: bool = False
) -> Score:
    """Measures the overlap in sequences of 1 to 6 characters, spaces left out.

        chrF = 100 * (1 + b^2) * P * R / (b^2 * P + R), with b = 2

    P is the share of the hypotheses' n-grams that stand in the reference, R the share of the
    reference's that stand in the hypothesis; each is counted over all sentences together, then
    averaged over the orders n that both sides have. Of several references the one with the best
    chrF counts.

    Args:
        hypotheses: as in `bleu`, and so the others and the errors.
        references: [N].
        lowercase: whether letters that differ in case alone are the same.

    Source: Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation", equation 1;
    Popović 2016, "chrF deconstructed", for b.
    """
    return _measure(CHRF(lowercase=lowercase), hypotheses, references)


def exact_match(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], lowercase: bool = False
) -> float:
    """Returns the share of hypotheses, 0..1, equal to one of their references to the character.

    Arguments and errors as in `bleu`.
    """
    _check_sentences(hypotheses, references)
    fold = str.lower if lowercase else str
    hits = [
        fold(hypothesis) in {fold(reference) for reference in of_sentence}
        for hypothesis, of_sentence in zip(hypotheses, references, strict=True)
    ]
    return sum(hits) / len(hits)


def perplexity(total_nll: float, tokens: int) -> float:
    """Returns e to the mean negative log-likelihood: the number of tokens a model wavers between.

    Args:
        total_nll: sum over the tokens of -ln(probability of the true one), without smoothing.
        tokens: how many were predicted, at least 1.

    Raises:
        ValueError: if there are no tokens.
    """
    if tokens < 1:
        raise ValueError(f"perplexity needs at least one token, got {tokens}")
    try:
        return math.exp(total_nll / tokens)
    except OverflowError:
        return math.inf


def bleu_by_length(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    lengths: Sequence[int],
    edges: Sequence[int] = LENGTH_EDGES,
    lowercase: bool = False,
) -> list[LengthScore]:
    """Computes BLEU for short and for long sentences.

    In a range whose hypotheses are all shorter than four tokens, BLEU averages over the orders
    of n-grams that exist; elsewhere it is that of `bleu`.

    Args:
        hypotheses: [N].
        references: [N].
        lengths: [N], tokens of each source sentence.
        edges: ascending; the ranges are 0 to the first edge, from there to the second, ...,
            above the last one, each with its upper edge and without its lower one.
        lowercase: as in `bleu`.

    Returns:
        The ranges that hold sentences, shortest first.

    Raises:
        ValueError: as in `bleu`; for lengths of another number or below 0, for edges that do
            not ascend from 0.
    """
    _check_sentences(hypotheses, references)
    _check_lengths(lengths, len(hypotheses), edges)
    scores = []
    for low, high in _ranges(edges):
        rows = [i for i, n in enumerate(lengths) if low <= n and (high is None or n <= high)]
        if rows:
            metric = BLEU(lowercase=lowercase, effective_order=True)
            score = _measure(metric, [hypotheses[i] for i in rows], [references[i] for i in rows])
            scores.append(LengthScore(low, high, len(rows), score.score))
    return scores


def _ranges(edges: Sequence[int]) -> list[tuple[int, int | None]]:
    bounds = [-1, *edges]
    return [*((low + 1, high) for low, high in pairwise(bounds)), (bounds[-1] + 1, None)]


def _check_lengths(lengths: Sequence[int], sentences: int, edges: Sequence[int]) -> None:
    if len(lengths) != sentences:
        raise ValueError(f"{sentences} hypotheses need as many lengths, got {len(lengths)}")
    if min(lengths) < 0:
        raise ValueError(f"lengths must be 0 or more, got {min(lengths)}")
    if any(low >= high for low, high in pairwise([-1, *edges])):
        raise ValueError(f"edges must ascend from 0, got {list(edges)}")


def _measure(
    metric: Metric, hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> Score:
    _check_sentences(hypotheses, references)
    # From one list a sentence to one stream a reference; None, not "", where a sentence has fewer.
    streams: list[Any] = [list(stream) for stream in zip_longest(*references)]
    score = metric.corpus_score(list(hypotheses), streams).score
    return Score(float(score), str(metric.get_signature()))


def _check_sentences(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if len(hypotheses) != len(references):
        raise ValueError(
            f"{len(hypotheses)} hypotheses need references for as many sentences, "
            f"got {len(references)}"
        )
    if not hypotheses:
        raise ValueError("no sentences to measure; expected at least one")
    for i, of_sentence in enumerate(references):
        if isinstance(of_sentence, str) or not of_sentence:
            raise ValueError(
                f"references[{i}] must be a sequence of one or more strings, got {of_sentence!r}"
            )
