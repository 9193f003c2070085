"""Beam search on the host, around a graph that computes one step of it.

It finds what `models.translation.decoding` finds inside a graph. The graph keeps the state of the
hypotheses and ranks their continuations; the host keeps what was written. Its part is plain
Python: for the few hypotheses of a source, operations on arrays would take several times as long.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from protocol.subwords import END_ID, PADDING_ID, START_ID

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

# Stands for a probability of zero; sums of it still order as they should.
IMPOSSIBLE = -1e9
# More than any two scores differ by.
AFTER_FINISHED = 1e4


class Continuations(NamedTuple):
    """The 2 B best continuations of each row's B hypotheses, best first.

    Attributes:
        scores: log-probabilities of the whole, float32 [N, 2B].
        places: parent * V + token, the parent being one of the row's B, int32 [N, 2B].
    """

    scores: Floats
    places: Ints


Step = Callable[[Ints, Ints, int, Floats], Continuations]
"""Reads one more token of each hypothesis.

Args: the token, int32 [N B]; the hypothesis of the step before that it continues, int32 [N B],
out of N B; the number of steps before this one; the hypotheses' log-probabilities, float32 [N, B].
"""


@dataclass(frozen=True)
class Decoded:
    """Translations, best first.

    Attributes:
        token_ids: int32 [N, B, L], each ends with END where it was not cut off, then PADDING.
        scores: float32 [N, B], log-probability over the length penalty.
    """

    token_ids: Ints
    scores: Floats


def beam_search(
    step: Step, limits: Ints, beam_width: int, vocabulary_size: int, alpha: float
) -> Decoded:
    """Keeps the B best hypotheses at each step, and the B best that have ended.

    Of the 2 B best continuations of a row, those that end compete for the finished places with
    their score, and the B best of the others go on. A row is done when no hypothesis that goes
    on could still beat the worst finished one, or when its limit is reached; places without a
    finished hypothesis then go to unfinished ones. A beam of 1 takes the best continuation only,
    as greedy search does.

    Args:
        step: what is asked, at most as often as the largest limit says.
        limits: most tokens of each row, int32 [N], N at least 1.
        beam_width: B.
        vocabulary_size: V.
        alpha: of the length penalty.

    Source: Sutskever et al. 2014, section 3.2; the score of Wu et al. 2016, equation 14.
    """
    beams = [Beam(beam_width, limit, alpha) for limit in limits.tolist()]
    parents = np.arange(len(beams) * beam_width, dtype=np.int32)
    first = parents[::beam_width, None]  # hypothesis of each row
    for position in range(limits.max()):
        if all(beam.done for beam in beams):
            break
        token_ids = np.array([h.token for beam in beams for h in beam.alive], np.int32)
        alive = np.array([[h.score for h in beam.alive] for beam in beams], np.float32)
        found = step(token_ids, parents, position, alive)
        rows = zip(beams, found.scores.tolist(), found.places.tolist(), strict=True)
        for beam, scores, places in rows:
            if not beam.done:
                beam.advance(scores, places, vocabulary_size)
        parents = (first + np.array([beam.parents for beam in beams], np.int32)).ravel()
    return _decoded([beam.best() for beam in beams], limits)


def length_penalty(length: int, alpha: float) -> float:
    """Returns what a hypothesis' log-probability is divided by: ((5 + length) / 6)^alpha.

    Source: Wu et al. 2016, "Google's Neural Machine Translation System", equation 14.
    """
    penalty: float = ((5 + length) / 6) ** alpha
    return penalty


class Hypothesis(NamedTuple):
    """What may be the translation of a source.

    Attributes:
        score: log-probability; that over the length penalty where it has ended.
        token: written last.
        before: what it continues; None where nothing is written.
    """

    score: float
    token: int = START_ID
    before: "Hypothesis | None" = None

    def token_ids(self) -> list[int]:
        """Returns all that is written."""
        ids, hypothesis = [], self
        while hypothesis.before is not None:
            ids.append(hypothesis.token)
            hypothesis = hypothesis.before
        return ids[::-1]


class Beam:
    """The hypotheses of one source, B that go on and B that have ended, best first.

    Args:
        beam_width: B.
        limit: most tokens.
        alpha: of the length penalty.

    Attributes:
        alive: those that go on.
        parents: which one of the step before each of them continues.
        finished: those that ended; the score is `IMPOSSIBLE` where none has yet.
        done: whether nothing may change any more.
    """

    def __init__(self, beam_width: int, limit: int, alpha: float) -> None:
        impossible = Hypothesis(IMPOSSIBLE)
        self.alive = [Hypothesis(0.0), *[impossible] * (beam_width - 1)]
        self.parents: Sequence[int] = range(beam_width)
        self.finished = [impossible] * beam_width
        self.done = limit <= 0
        self._width = beam_width
        self._limit = limit
        self._alpha = alpha
        self._optimistic = length_penalty(limit, alpha)  # of the longest hypothesis
        self._length = 0

    def advance(self, scores: Sequence[float], places: Sequence[int], size: int) -> None:
        """Writes one more token.

        Args:
            scores: of the best continuations, best first.
            places: which they are, see `Continuations`.
            size: V.
        """
        self._length += 1
        count = len(scores) if self._width > 1 else 1
        parents, tokens = [place // size for place in places], [place % size for place in places]
        written = [Hypothesis(scores[n], tokens[n], self.alive[parents[n]]) for n in range(count)]
        going: Sequence[int] = range(self._width)
        if END_ID in tokens[:count]:
            self._finish([each for each in written if each.token == END_ID])
            written = [
                each._replace(score=IMPOSSIBLE) if each.token == END_ID else each
                for each in written
            ]
            going = best_places([each.score for each in written], self._width)
        self.parents = [parents[n] for n in going]
        self.alive = [written[n] for n in going]
        hopeless = self.alive[0].score / self._optimistic <= self.finished[-1].score
        self.done = hopeless or self._length >= self._limit

    def _finish(self, ended: Sequence[Hypothesis]) -> None:
        penalty = length_penalty(self._length, self._alpha)
        scored = [each._replace(score=each.score / penalty) for each in ended]
        pool = [*self.finished, *scored]
        kept = best_places([each.score for each in pool], self._width)
        self.finished = [pool[n] for n in kept]

    def best(self) -> list[Hypothesis]:
        """Chooses B: those that ended before those that did not."""
        penalty = length_penalty(self._length, self._alpha)
        late = [each._replace(score=each.score / penalty) for each in self.alive]
        pool = [*self.finished, *late]
        order = [each.score for each in self.finished]
        order += [each.score - AFTER_FINISHED for each in late]
        return [pool[n] for n in best_places(order, self._width)]


def best_places(scores: Sequence[float], count: int) -> list[int]:
    """Finds the largest scores, best first; of equal ones the first."""
    return sorted(range(len(scores)), key=scores.__getitem__, reverse=True)[:count]


def _decoded(best: Sequence[Sequence[Hypothesis]], limits: Ints) -> Decoded:
    """Writes the hypotheses of all rows to arrays."""
    shape = len(best), len(best[0])
    token_ids = np.full((*shape, max(0, limits.max())), PADDING_ID, np.int32)
    for row, hypotheses in enumerate(best):
        for place, hypothesis in enumerate(hypotheses):
            ids = hypothesis.token_ids()
            token_ids[row, place, : len(ids)] = ids
    return Decoded(token_ids, np.array([[h.score for h in row] for row in best], np.float32))
