"""Host-side steps of the translator: text to tokens, the search, tokens to text.

There are two graphs around which the host searches. One reads the sources, once; the other
continues all hypotheses by one token. `SessionGraph` picks the graph by the outputs asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from protocol.beam_search import Continuations, Floats, Ints, beam_search
from protocol.contracts import ATTENTION, SERVING_DEFAULT, TENSORS, TRANSLATION
from protocol.errors import InvalidRequestError
from protocol.pipelines import Array, Graph, Prepared, length_bucket, stack_padded
from protocol.subwords import END_ID, PADDING_ID, START_ID, SubwordTokenizer
from protocol.tokenizer import EncodedBatch

MAX_BEAM_WIDTH = 16

TEXT, TOKEN_IDS = "text", "token_ids"
TRANSLATION_IDS, SCORES = "translation_ids", "scores"

# What the graphs compute; the encoder's outputs are known by their first letters.
MEMORY = "memory_*"
CONTINUATIONS = ("scores", "continuations")
WEIGHTS = "attention"

# Most hypotheses in one search: bounds the memory of their state, and keeps it near the processor.
_HYPOTHESES_PER_SEARCH = 128


class Asked(NamedTuple):
    """How one request wants to be searched for; the fields are inputs of the signatures.

    Attributes:
        beam_width: hypotheses kept at each step; 1 is greedy.
        max_length: most tokens of a translation, its end included.
        alternatives: K, how many translations of each text to return.
    """

    beam_width: int
    max_length: int
    alternatives: int

    @classmethod
    def of(cls, tensors: Mapping[str, Array]) -> "Asked":
        """Reads the fields from tensors."""
        return cls(*(int(tensors[name]) for name in cls._fields))

    def as_tensors(self) -> dict[str, Array]:
        """Returns the fields as tensors, int32 []."""
        return {name: np.array(value, np.int32) for name, value in self._asdict().items()}


@dataclass(frozen=True)
class SearchSettings:
    """How translations are searched for where a request does not say, and in what.

    Attributes:
        vocabulary_size: V.
        beam_width: default of `Asked.beam_width`.
        max_length: default and upper bound of `Asked.max_length`.
        length_penalty: alpha of Wu et al. 2016, equation 14.
        length_factor: a translation may have this many times the tokens of its source ...
        length_allowance: ... and so many more.
        state: sizes of what the step graph keeps of one hypothesis before the first step.
    """

    vocabulary_size: int
    beam_width: int
    max_length: int
    length_penalty: float
    length_factor: float
    length_allowance: int
    state: Mapping[str, tuple[int, ...]]

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "SearchSettings":
        """Reads the settings from a manifest's `pipeline`.

        Raises:
            KeyError: one is missing.
            TypeError, ValueError: one is not what it should be.
        """
        return cls(
            vocabulary_size=int(document["vocabulary_size"]),
            beam_width=int(document["beam_width"]),
            max_length=int(document["max_length"]),
            length_penalty=float(document["length_penalty"]),
            length_factor=float(document["length_factor"]),
            length_allowance=int(document["length_allowance"]),
            state={name: tuple(map(int, sizes)) for name, sizes in document["state"].items()},
        )

    def asked(self, inputs: Mapping[str, Array]) -> Asked:
        """Reads how a request wants to be searched for.

        Raises:
            InvalidRequestError: a value is out of its range.
        """
        width = _checked(inputs, "beam_width", self.beam_width, 1, MAX_BEAM_WIDTH)
        length = _checked(inputs, "max_length", self.max_length, 1, self.max_length)
        kept = _checked(inputs, "alternatives", 0, 0, width)
        return Asked(width, length, kept or width)

    def limits(self, sources: Ints, max_length: int) -> Ints:
        """Returns the most tokens that the translation of each source, [N, S], may have, [N]."""
        tokens = (sources != PADDING_ID).sum(axis=1).astype(np.float32)
        allowed = (tokens * np.float32(self.length_factor)).astype(np.int32)
        limits: Ints = np.minimum(allowed + np.int32(self.length_allowance), np.int32(max_length))
        return limits


def _checked(inputs: Mapping[str, Array], name: str, default: int, low: int, high: int) -> int:
    return require_range(name, int(inputs.get(name, default)), low, high)


def require_range(name: str, value: int, low: int, high: int) -> int:
    """Returns the value.

    Raises:
        InvalidRequestError: it is not in `low` to `high`.
    """
    if not low <= value <= high:
        raise InvalidRequestError(f"{name} must be {low} to {high}, got {value}")
    return value


class StepGraph:
    """The graph of one step, with the state of the hypotheses between its steps.

    Args:
        graph: what computes it.
        memory: what the encoder says of N sources.
        sizes: of the state of one hypothesis before the first step.
        rows: number of hypotheses, N B.
    """

    def __init__(
        self,
        graph: Graph,
        memory: Mapping[str, Array],
        sizes: Mapping[str, Sequence[int]],
        rows: int,
    ) -> None:
        self._graph = graph
        self._memory = memory
        self._following = {f"next_{name}": f"state_{name}" for name in sizes}
        self._state = {
            f"state_{name}": np.zeros((rows, *size), np.float32) for name, size in sizes.items()
        }

    def __call__(
        self, token_ids: Ints, parents: Ints, position: int, alive: Floats
    ) -> Continuations:
        """Ranks the continuations; see `beam_search.Step`."""
        found = self._advance(token_ids, parents, position, alive, CONTINUATIONS)
        return Continuations(*(found[name] for name in CONTINUATIONS))

    def weights(self, token_ids: Ints, position: int) -> Floats:
        """Reads one more token of one hypothesis for each source.

        Args:
            token_ids: the token before, int32 [N].
            position: number of steps before this one.

        Returns:
            How much the token after it attends to each token of its source, float32 [N, S].
        """
        rows = len(token_ids)
        parents, alive = np.arange(rows, dtype=np.int32), np.zeros((rows, 1), np.float32)
        found = self._advance(token_ids, parents, position, alive, (WEIGHTS,))
        return found[WEIGHTS][:, 0]

    def _advance(
        self,
        token_ids: Ints,
        parents: Ints,
        position: int,
        alive: Floats,
        outputs: tuple[str, ...],
    ) -> dict[str, Array]:
        tensors = {
            "token_ids": token_ids,
            "parents": parents,
            "position": np.array(position, np.int32),
            "alive": alive,
            **self._memory,
            **self._state,
        }
        found = self._graph(tensors, (*outputs, *self._following))
        self._state = {state: found[name] for name, state in self._following.items()}
        return found


class TranslationPipeline:
    """Token ids -> token ids of the K best translations, and their scores.

    A source without tokens is not asked for: its translations are empty, and score 0.

    Args:
        tokenizer: says how long a source may be.
        settings: how to search.
    """

    spec = TRANSLATION.signature(TENSORS)
    prepares_slowly = False

    def __init__(self, tokenizer: SubwordTokenizer, settings: SearchSettings) -> None:
        self.tokenizer = tokenizer
        self.settings = settings
        following = (f"next_{name}" for name in settings.state)
        self.outputs: tuple[str, ...] = (MEMORY, *CONTINUATIONS, *following)

    def prepare(self, inputs: Mapping[str, Array]) -> Prepared:
        """Checks the token ids.

        Raises:
            InvalidRequestError: an id or a parameter is out of its range, or a row is too long.
        """
        token_ids = without_padding(inputs[TOKEN_IDS])
        size, longest = self.settings.vocabulary_size, token_ids.shape[1]
        if longest > self.tokenizer.max_tokens:
            raise InvalidRequestError(
                f"{TOKEN_IDS} must have at most {self.tokenizer.max_tokens} tokens in a row, "
                f"got {longest}"
            )
        outside = token_ids[(token_ids < 0) | (token_ids >= size)]
        if outside.size:
            raise InvalidRequestError(f"{TOKEN_IDS} must be 0 to {size - 1}, got {outside[0]}")
        return self._prepared(token_ids, inputs)

    def _prepared(
        self, token_ids: Ints, inputs: Mapping[str, Array], context: Any = None
    ) -> Prepared:
        """Requests of similar length that are searched for alike share a run."""
        rows, longest = token_ids.shape
        asked = self.settings.asked(inputs)
        return Prepared(
            tensors={TOKEN_IDS: token_ids, **asked.as_tensors()},
            rows=rows,
            batch_key=(length_bucket(longest), asked),
            context=context,
        )

    def merge(self, items: Sequence[Prepared]) -> dict[str, Array]:
        """Joins the rows, padded to the longest of them; the parameters are equal."""
        token_ids = stack_padded([item.tensors[TOKEN_IDS] for item in items])
        return {**items[0].tensors, TOKEN_IDS: token_ids}

    def run(self, graph: Graph, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Translates the sources, those of like length together."""
        sources, asked = tensors[TOKEN_IDS], Asked.of(tensors)
        answers = self.blank_answers(sources, asked)
        for rows in batches_by_length(sources, asked.beam_width):
            found = self.translate(graph, without_padding(sources[rows]), asked)
            for name, values in found.items():
                place: tuple[Any, ...] = (rows, *(slice(size) for size in values.shape[1:]))
                answers[name][place] = values
        return answers

    def blank_answers(self, sources: Ints, asked: Asked) -> dict[str, Array]:
        """Returns the answers to N blank sources, with room for those to any others."""
        limits = self.settings.limits(sources, asked.max_length)
        shape = (len(sources), asked.alternatives)
        return {
            TRANSLATION_IDS: np.full((*shape, limits.max(initial=0)), PADDING_ID, np.int32),
            SCORES: np.zeros(shape, np.float32),
        }

    def translate(self, graph: Graph, sources: Ints, asked: Asked) -> dict[str, Array]:
        """Searches for the translations of sources, none of which is blank."""
        return self._search(graph, graph({TOKEN_IDS: sources}, (MEMORY,)), sources, asked)

    def _search(
        self, graph: Graph, memory: Mapping[str, Array], sources: Ints, asked: Asked
    ) -> dict[str, Array]:
        settings, width = self.settings, asked.beam_width
        step = StepGraph(graph, memory, settings.state, len(sources) * width)
        limits = settings.limits(sources, asked.max_length)
        found = beam_search(step, limits, width, settings.vocabulary_size, settings.length_penalty)
        kept = slice(asked.alternatives)
        return {TRANSLATION_IDS: found.token_ids[:, kept], SCORES: found.scores[:, kept]}

    def finish(self, outputs: Mapping[str, Array], prepared: Prepared) -> dict[str, Array]:
        """Leaves out the columns that are padding in all rows."""
        ids = outputs[TRANSLATION_IDS]
        longest = (ids != PADDING_ID).sum(axis=-1).max(initial=0)
        return {TRANSLATION_IDS: ids[..., :longest], SCORES: outputs[SCORES]}


class TextPipeline(TranslationPipeline):
    """Text -> its best translation, and the K best with their scores."""

    spec = TRANSLATION.signature(SERVING_DEFAULT)

    def prepare(self, inputs: Mapping[str, Array]) -> Prepared:
        """Tokenises.

        Raises:
            InvalidRequestError: a parameter is out of its range.
        """
        encoded = self.tokenizer.encode_batch(inputs[TEXT].tolist())
        return self._prepared(encoded.token_ids, inputs, context=encoded)

    def finish(self, outputs: Mapping[str, Array], prepared: Prepared) -> dict[str, Array]:
        """Joins the tokens of all translations."""
        encoded: EncodedBatch = prepared.context
        texts, scores = self.texts(outputs[TRANSLATION_IDS]), outputs[SCORES]
        return {
            "translation": texts[:, 0],
            "score": scores[:, 0],
            "alternatives": texts,
            "alternative_scores": scores,
            "truncated": encoded.truncated,
        }

    def texts(self, ids: Ints) -> Array:
        """Decodes translations, int32 [N, K, L], to bytes, object [N, K]."""
        texts = np.empty(ids.shape[:2], dtype=object)
        for place in np.ndindex(*texts.shape):
            texts[place] = self.tokenizer.decode(ids[place].tolist()).encode()
        return texts


class AttentionPipeline(TextPipeline):
    """Text -> its best translation, and what each of its tokens attends to.

    The translation is read again, token by token, for the weights: to keep those of all
    hypotheses in the search would cost more.
    """

    spec = TRANSLATION.signature(ATTENTION)

    def __init__(self, tokenizer: SubwordTokenizer, settings: SearchSettings) -> None:
        super().__init__(tokenizer, settings)
        self.outputs = (*self.outputs, WEIGHTS)

    def prepare(self, inputs: Mapping[str, Array]) -> Prepared:
        """Tokenises; only the best translation is asked for.

        Raises:
            InvalidRequestError: a parameter is out of its range.
        """
        return super().prepare({**inputs, "alternatives": np.array(1, np.int32)})

    def blank_answers(self, sources: Ints, asked: Asked) -> dict[str, Array]:
        """The end of an empty translation attends to the end of its source."""
        answers = super().blank_answers(sources, asked)
        rows, longest = sources.shape
        steps = answers[TRANSLATION_IDS].shape[-1] + 1
        weights = np.zeros((rows, steps, longest), np.float32)
        weights[blank_rows(sources), 0, 0] = 1.0
        return {**answers, WEIGHTS: weights}

    def translate(self, graph: Graph, sources: Ints, asked: Asked) -> dict[str, Array]:
        """Adds the weights, float32 [N, T, S], to the translations."""
        memory = graph({TOKEN_IDS: sources}, (MEMORY,))
        found = self._search(graph, memory, sources, asked)
        targets = with_end(found[TRANSLATION_IDS][:, 0])
        weights = self._read(StepGraph(graph, memory, self.settings.state, len(sources)), targets)
        return {**found, WEIGHTS: weights * (targets != PADDING_ID)[..., None]}

    def _read(self, step: StepGraph, targets: Ints) -> Floats:
        """Reads targets, [N, T]; returns what each token attends to, [N, T, S]."""
        first = np.full((len(targets), 1), START_ID, np.int32)
        before = np.concatenate([first, targets[:, :-1]], axis=1)
        return np.stack([step.weights(ids, n) for n, ids in enumerate(before.T)], axis=1)

    def finish(self, outputs: Mapping[str, Array], prepared: Prepared) -> dict[str, Array]:
        """Shows the tokens of both texts."""
        encoded: EncodedBatch = prepared.context
        targets = with_end(outputs[TRANSLATION_IDS][:, 0])
        steps, longest = targets.shape[1], encoded.token_ids.shape[1]
        answers = super().finish(outputs, prepared)
        return {
            "translation": answers["translation"],
            "score": answers["score"],
            "attention": outputs[WEIGHTS][:, :steps, :longest],
            "source_tokens": self._shown(encoded.token_ids),
            "target_tokens": self._shown(targets),
            "truncated": encoded.truncated,
        }

    def _shown(self, ids: Ints) -> Array:
        """Shows token ids, int32 [N, T], as bytes, object [N, T]."""
        pieces = [piece.encode() for piece in self.tokenizer.pieces_of(ids.ravel().tolist())]
        return np.array(pieces, dtype=object).reshape(ids.shape)


def blank_rows(sources: Ints) -> Array:
    """Tells which sources, int32 [N, S], have no token but their end, bool [N]."""
    blank: Array = ((sources == END_ID) | (sources == PADDING_ID)).all(axis=1)
    return blank


def batches_by_length(sources: Ints, beam_width: int) -> Iterator[Array]:
    """Yields the rows of sources that are not blank, shortest first, few enough for a search."""
    lengths = (sources != PADDING_ID).sum(axis=1)
    rows = np.flatnonzero(~blank_rows(sources))
    rows = rows[np.argsort(lengths[rows], kind="stable")]
    most = max(1, _HYPOTHESES_PER_SEARCH // beam_width)
    for start in range(0, len(rows), most):
        yield rows[start : start + most]


def without_padding(token_ids: Ints) -> Ints:
    """Leaves out the last columns of int32 [N, S] that are padding in all rows; one stays."""
    used = np.flatnonzero((token_ids != PADDING_ID).any(axis=0))
    return token_ids[:, : used[-1] + 1 if used.size else 1]


def with_end(ids: Ints) -> Ints:
    """Ends all translations with END, also those that were cut.

    Args:
        ids: int32 [N, L], END at the end of each that was not cut, then padding.

    Returns:
        int32 [N, T], T as small as it can be, at least 1.
    """
    tokens = np.where(ids == END_ID, np.int32(PADDING_ID), ids)
    lengths = (tokens != PADDING_ID).sum(axis=1)
    steps = int(lengths.max(initial=0)) + 1
    targets = np.full((len(ids), steps), PADDING_ID, np.int32)
    targets[:, :-1] = tokens[:, : steps - 1]
    targets[np.arange(len(ids)), lengths] = END_ID
    return targets
