"""Greedy and beam search, inside a graph or outside.

Both take the same arguments and return the same, so either may stand in for the other. A row's
answer depends on that row alone: a row that is done stays as it is while others go on.
`protocol.beam_search` is the same search for a step graph that a host drives.
"""

from dataclasses import dataclass

from keras import ops

from models.translation.config import DecodingConfig
from models.translation.network import Translator
from models.translation.step import Tensor
from protocol.subwords import END_ID, PADDING_ID, START_ID, UNKNOWN_ID

# Stands for a probability of zero; sums of it still order as they should.
IMPOSSIBLE = -1e9
# More than any two scores differ by.
AFTER_FINISHED = 1e4
UNWRITTEN = (PADDING_ID, UNKNOWN_ID, START_ID)


@dataclass(frozen=True)
class Decoded:
    """Translations, best first.

    Attributes:
        token_ids: int32 [N, K, L], each ends with END where it was not cut off, then PADDING.
        scores: float32 [N, K], log-probability over the length penalty.
    """

    token_ids: Tensor
    scores: Tensor


def length_limits(source_ids: Tensor, config: DecodingConfig, max_length: Tensor) -> Tensor:
    """Returns the most tokens that each row's translation may have, int32 [N].

    Args:
        source_ids: int32 [N, S].
        config: by how much a translation may be longer than its source.
        max_length: upper bound, int32 scalar.
    """
    tokens = ops.sum(ops.cast(source_ids != PADDING_ID, "float32"), axis=1)
    allowed = ops.cast(tokens * config.length_factor, "int32") + config.length_allowance
    return ops.minimum(allowed, max_length)


def length_penalty(length: Tensor, alpha: float) -> Tensor:
    """Returns what a hypothesis' log-probability is divided by, float32.

    lp(Y) = ((5 + |Y|) / 6)^alpha

    Source: Wu et al. 2016, "Google's Neural Machine Translation System", equation 14.
    """
    return ((5.0 + ops.cast(length, "float32")) / 6.0) ** alpha


def greedy_search(network: Translator, source_ids: Tensor, limits: Tensor, alpha: float) -> Decoded:
    """Takes the most probable token at each step.

    Args:
        network: what is asked.
        source_ids: int32 [N, S].
        limits: most tokens of each row, int32 [N].
        alpha: of the length penalty, for the score.

    Returns:
        One translation for each row, K = 1.
    """
    rows, longest = ops.shape(source_ids)[0], ops.max(limits)
    memory, state = network.encode(source_ids), network.start(rows, longest)
    names = list(state)

    def unfinished(position: Tensor, done: Tensor, *_: Tensor) -> Tensor:
        return ops.logical_and(position < longest, ops.logical_not(ops.all(done)))

    def write(
        position: Tensor, done: Tensor, last: Tensor, ids: Tensor, score: Tensor, *state: Tensor
    ) -> tuple[Tensor, ...]:
        step = network.step(memory, dict(zip(names, state, strict=True)), last, position)
        log_probability = log_probabilities(step.logits)
        best = ops.cast(ops.argmax(log_probability, axis=-1), "int32")
        chosen = ops.where(done, PADDING_ID, best)
        gained = ops.max(log_probability, axis=-1)
        score = score + ops.where(done, 0.0, gained)
        ids = put_token(ids, chosen, position)
        done = ops.logical_or(done, ops.logical_or(chosen == END_ID, position + 1 >= limits))
        return (position + 1, done, chosen, ids, score, *(step.state[name] for name in names))

    first = (
        ops.zeros((), "int32"),
        limits <= 0,
        ops.full((rows,), START_ID, "int32"),
        ops.zeros((rows, longest), "int32"),
        ops.zeros((rows,), "float32"),
    )
    _, _, _, ids, score, *_ = ops.while_loop(
        unfinished, write, (*first, *(state[name] for name in names))
    )
    lengths = ops.sum(ops.cast(ids != PADDING_ID, "int32"), axis=-1)
    return Decoded(ids[:, None], (score / length_penalty(lengths, alpha))[:, None])


def beam_search(
    network: Translator, source_ids: Tensor, limits: Tensor, beam_width: Tensor, alpha: float
) -> Decoded:
    """Keeps the B best hypotheses at each step, and the B best that have ended.

    Of the 2 B best continuations of a row, those that end compete for the finished places with
    their score, and the B best of the others go on. A row is done when no hypothesis that goes
    on could still beat the worst finished one, or when its limit is reached; places without a
    finished hypothesis then go to unfinished ones.

    Args:
        network: what is asked.
        source_ids: int32 [N, S].
        limits: most tokens of each row, int32 [N].
        beam_width: B, int or int32 scalar.
        alpha: of the length penalty.

    Returns:
        K = B translations for each row.

    Source: Sutskever et al. 2014, section 3.2; the score of Wu et al. 2016, equation 14.
    """
    rows, longest = ops.shape(source_ids)[0], ops.max(limits)
    memory = network.encode(source_ids)
    state = network.start(rows * beam_width, longest)
    names = list(state)
    optimistic = length_penalty(limits, alpha)[:, None]  # of the longest hypothesis, (N, 1)

    def unfinished(position: Tensor, done: Tensor, *_: Tensor) -> Tensor:
        return ops.logical_and(position < longest, ops.logical_not(ops.all(done)))

    def write(
        position: Tensor, done: Tensor, last: Tensor, *variables: Tensor
    ) -> tuple[Tensor, ...]:
        beams, values = Beams(*variables[:4]), variables[4:]
        step = network.step(memory, dict(zip(names, values, strict=True)), last, position)
        found = continuations(beams.alive, step.logits, beam_width)
        ids = put_token(take_rows(beams.alive_ids, found.parents), found.tokens, position)
        ended = found.tokens == END_ID
        ending = ops.where(ended, found.scores / length_penalty(position + 1, alpha), IMPOSSIBLE)
        finished, kept = ops.top_k(ops.concatenate([beams.finished, ending], 1), beam_width)
        pool = ops.concatenate([beams.finished_ids, ids], axis=1)  # (N, 3B, L)
        alive, going = ops.top_k(ops.where(ended, IMPOSSIBLE, found.scores), beam_width)
        new = Beams(alive, take_rows(ids, going), finished, take_rows(pool, kept))
        beams = beams.unless(done, new)
        hopeless = beams.alive[:, :1] / optimistic <= beams.finished[:, -1:]
        done = done | hopeless[:, 0] | (position + 1 >= limits)
        parents = take_rows(found.parents[..., None], going)[..., 0]  # (N, B)
        state = [take_hypotheses(step.state[name], parents) for name in names]
        last = ops.reshape(take_rows(found.tokens[..., None], going), (-1,))
        return (position + 1, done, last, *beams.as_tuple(), *state)

    none = ops.full((rows, beam_width), IMPOSSIBLE, "float32")
    alive = ops.where(ops.arange(beam_width)[None, :] == 0, 0.0, none)  # one, at first
    ids = ops.zeros((rows, beam_width, longest), "int32")
    variables = (
        ops.zeros((), "int32"),
        limits <= 0,
        ops.full((rows * beam_width,), START_ID, "int32"),
        *(alive, ids, none, ids),
        *(state[name] for name in names),
    )
    results = ops.while_loop(unfinished, write, variables)
    return Beams(*results[3:7]).best(beam_width, alpha)


@dataclass(frozen=True)
class Beams:
    """Hypotheses of N sources, B that go on and B that have ended, best first.

    Attributes:
        alive: log-probabilities, float32 [N, B].
        alive_ids: int32 [N, B, L].
        finished: scores, float32 [N, B]; `IMPOSSIBLE` where none has ended yet.
        finished_ids: int32 [N, B, L].
    """

    alive: Tensor
    alive_ids: Tensor
    finished: Tensor
    finished_ids: Tensor

    def as_tuple(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns the tensors in order."""
        return self.alive, self.alive_ids, self.finished, self.finished_ids

    def unless(self, done: Tensor, new: "Beams") -> "Beams":
        """Keeps the rows that are done, bool [N], and takes the others from `new`."""
        pairs = zip(self.as_tuple(), new.as_tuple(), strict=True)
        return Beams(
            *(
                ops.where(ops.reshape(done, (-1,) + (1,) * (len(old.shape) - 1)), old, fresh)
                for old, fresh in pairs
            )
        )

    def best(self, beam_width: Tensor, alpha: float) -> Decoded:
        """Chooses B of each row: those that ended before those that did not."""
        lengths = ops.sum(ops.cast(self.alive_ids != PADDING_ID, "int32"), axis=-1)
        unfinished = self.alive / length_penalty(lengths, alpha)
        order = ops.concatenate([self.finished, unfinished - AFTER_FINISHED], axis=1)
        _, kept = ops.top_k(order, beam_width)
        scores = ops.concatenate([self.finished, unfinished], axis=1)
        ids = ops.concatenate([self.finished_ids, self.alive_ids], axis=1)
        return Decoded(take_rows(ids, kept), take_rows(scores[..., None], kept)[..., 0])


@dataclass(frozen=True)
class Continuations:
    """The 2 B best continuations of each row's hypotheses, best first.

    Attributes:
        scores: log-probabilities of the whole, float32 [N, 2B].
        parents: which hypothesis is continued, int32 [N, 2B].
        tokens: by which token, int32 [N, 2B].
    """

    scores: Tensor
    parents: Tensor
    tokens: Tensor


def continuations(alive: Tensor, logits: Tensor, beam_width: Tensor) -> Continuations:
    """Finds the best continuations: enough that B go on even where B end.

    Args:
        alive: log-probabilities of the hypotheses, float32 [N, B].
        logits: of their next token, float32 [N B, V].
        beam_width: B.
    """
    size = logits.shape[-1]
    total = ops.reshape(alive, (-1, 1)) + log_probabilities(logits)  # (N B, V)
    by_row = ops.reshape(total, (-1, beam_width * size))
    scores, chosen = ops.top_k(by_row, 2 * beam_width)
    chosen = ops.cast(chosen, "int32")
    return Continuations(scores, chosen // size, chosen % size)


def log_probabilities(logits: Tensor) -> Tensor:
    """Returns log-probabilities, float32 [..., V]; those of `UNWRITTEN` are `IMPOSSIBLE`."""
    size = logits.shape[-1]
    never = [IMPOSSIBLE if token in UNWRITTEN else 0.0 for token in range(size)]
    return ops.log_softmax(ops.cast(logits, "float32") + ops.convert_to_tensor(never, "float32"))


def put_token(ids: Tensor, tokens: Tensor, position: Tensor) -> Tensor:
    """Writes tokens, int32 [...], at a position of ids, int32 [..., L]."""
    here = ops.arange(ops.shape(ids)[-1], dtype="int32") == position
    return ops.where(here, tokens[..., None], ids)


def take_rows(values: Tensor, chosen: Tensor) -> Tensor:
    """Takes, of [N, M, L], the entries `chosen`, int [N, K], of each row: [N, K, L]."""
    rows, entries, length = ops.shape(values)
    flat = ops.reshape(values, (-1, length))
    first = ops.arange(rows, dtype="int32")[:, None] * entries
    return ops.take(flat, first + ops.cast(chosen, "int32"), axis=0)


def take_hypotheses(values: Tensor, parents: Tensor) -> Tensor:
    """Takes, of [N B, ...], the parents, int32 [N, B], of each row: [N B, ...]."""
    rows, beams = ops.shape(parents)
    first = ops.arange(rows, dtype="int32")[:, None] * beams
    return ops.take(values, ops.reshape(first + parents, (-1,)), axis=0)
