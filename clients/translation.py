"""Translations of texts: clients that turn strings into strings, and say where the model looked."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from clients.calls import Prediction
from clients.texts import encode_texts
from clients.typed import AsyncTaskClient, Script, ServedModel, TaskClient, TaskSpec
from protocol.contracts import ATTENTION, SERVING_DEFAULT, TRANSLATION
from protocol.errors import ContractError, InvalidRequestError

_SPEC = TaskSpec(TRANSLATION, batch_size=16)
_LOWEST = {"beam_width": 1, "max_length": 1, "alternatives": 0}
_HIGHEST = np.iinfo(np.int32).max

Result = TypeVar("Result")


@dataclass(frozen=True)
class Alternative:
    """One of the best translations of a text.

    Args:
        translation: The translation.
        score: Its log-probability over the model's length penalty; higher is better.
    """

    translation: str
    score: float


@dataclass(frozen=True)
class TranslationResult:
    """What the model makes of one text.

    Args:
        text: The text as it was given.
        translation: The best translation; empty for a blank text.
        score: Its log-probability over the model's length penalty; higher is better.
        alternatives: The best translations, best first; the first one is `translation`.
        truncated: Whether the text was too long and the model did not read its end.
    """

    text: str
    translation: str
    score: float
    alternatives: tuple[Alternative, ...]
    truncated: bool


@dataclass(frozen=True, eq=False)
class AttentionResult:
    """The best translation of one text, and where the model looked for each token of it.

    Args:
        text: The text as it was given.
        translation: The best translation.
        score: Its log-probability over the model's length penalty; higher is better.
        source_tokens: The text as the model read it, [S]; U+2581 begins a word, "</s>" ends all.
        target_tokens: The translation as the model wrote it, [T].
        attention: Share of each source token, float32 [T, S]; rows sum to 1.
        truncated: Whether the text was too long and the model did not read its end.
    """

    text: str
    translation: str
    score: float
    source_tokens: tuple[str, ...]
    target_tokens: tuple[str, ...]
    attention: npt.NDArray[np.float32]
    truncated: bool


class TranslationClient(TaskClient):
    """Translates texts with a served translation model; see `TaskClient` for the arguments."""

    spec = _SPEC

    def translate(
        self,
        texts: Sequence[str],
        *,
        beam_width: int | None = None,
        max_length: int | None = None,
        alternatives: int | None = None,
        timeout_s: float | None = None,
    ) -> list[TranslationResult]:
        """Translates texts; answer i belongs to text i.

        Long lists are sent in chunks of `batch_size`, one after another, texts of like length
        together.

        Args:
            texts: Any number of texts; an empty list gives an empty list, an empty text is fine.
            beam_width: Translations followed at a time, 1 for a greedy search; None leaves it to
                the model.
            max_length: Longest translation in tokens; None leaves it to the model.
            alternatives: How many translations of each text to return, at most `beam_width`;
                None or 0 returns all that the search followed.
            timeout_s: Deadline of each chunk in seconds; None takes the config's.

        Raises:
            InvalidRequestError: Something in `texts` is not a string, or a number is below its
                range (nothing was sent) or above the model's.
            ContractError: The served model is not a translation model.
            ServiceError: The call failed; the class tells the gRPC status.
        """
        script = _translate(self._served, texts, beam_width, max_length, alternatives)
        return self._run(script, timeout_s)

    def translate_one(
        self,
        text: str,
        *,
        beam_width: int | None = None,
        max_length: int | None = None,
        alternatives: int | None = None,
        timeout_s: float | None = None,
    ) -> TranslationResult:
        """Translates one text; see `translate`."""
        script = _translate(self._served, [text], beam_width, max_length, alternatives)
        return self._run(script, timeout_s)[0]

    def attention(
        self,
        texts: Sequence[str],
        *,
        beam_width: int | None = None,
        max_length: int | None = None,
        timeout_s: float | None = None,
    ) -> list[AttentionResult]:
        """Translates texts and tells where the model looked; see `translate`.

        It costs a second reading of each translation; `clients.heat_map` draws the answer.
        """
        return self._run(_attention(self._served, texts, beam_width, max_length), timeout_s)

    def attention_one(
        self,
        text: str,
        *,
        beam_width: int | None = None,
        max_length: int | None = None,
        timeout_s: float | None = None,
    ) -> AttentionResult:
        """Translates one text and tells where the model looked; see `attention`."""
        return self._run(_attention(self._served, [text], beam_width, max_length), timeout_s)[0]


class AsyncTranslationClient(AsyncTaskClient):
    """The asyncio twin of `TranslationClient`: the same methods, awaited."""

    spec = _SPEC

    async def translate(
        self,
        texts: Sequence[str],
        *,
        beam_width: int | None = None,
        max_length: int | None = None,
        alternatives: int | None = None,
        timeout_s: float | None = None,
    ) -> list[TranslationResult]:
        """Translates texts; see `TranslationClient.translate`."""
        script = _translate(self._served, texts, beam_width, max_length, alternatives)
        return await self._run(script, timeout_s)

    async def translate_one(
        self,
        text: str,
        *,
        beam_width: int | None = None,
        max_length: int | None = None,
        alternatives: int | None = None,
        timeout_s: float | None = None,
    ) -> TranslationResult:
        """Translates one text; see `TranslationClient.translate`."""
        script = _translate(self._served, [text], beam_width, max_length, alternatives)
        return (await self._run(script, timeout_s))[0]

    async def attention(
        self,
        texts: Sequence[str],
        *,
        beam_width: int | None = None,
        max_length: int | None = None,
        timeout_s: float | None = None,
    ) -> list[AttentionResult]:
        """Tells where the model looked; see `TranslationClient.attention`."""
        return await self._run(_attention(self._served, texts, beam_width, max_length), timeout_s)

    async def attention_one(
        self,
        text: str,
        *,
        beam_width: int | None = None,
        max_length: int | None = None,
        timeout_s: float | None = None,
    ) -> AttentionResult:
        """Tells where the model looked; see `TranslationClient.attention`."""
        script = _attention(self._served, [text], beam_width, max_length)
        return (await self._run(script, timeout_s))[0]


def read_translations(texts: Sequence[str], prediction: Prediction) -> list[TranslationResult]:
    """Reads the translations of `texts` out of a prediction.

    Args:
        texts: The texts that were sent, N of them.
        prediction: Outputs translation object [N], score float32 [N], alternatives object [N, K],
            alternative_scores float32 [N, K] and truncated bool [N].

    Raises:
        ContractError: Alternatives and their scores differ in number.
    """
    _check_shape(prediction, "alternative_scores", prediction["alternatives"].shape)
    names = ("translation", "score", "alternatives", "alternative_scores", "truncated")
    rows = zip(texts, *(prediction[name] for name in names), strict=True)
    return [_translation_result(*row) for row in rows]


def read_attention(texts: Sequence[str], prediction: Prediction) -> list[AttentionResult]:
    """Reads the translations of `texts` and their attention out of a prediction.

    Args:
        texts: The texts that were sent, N of them.
        prediction: Outputs translation object [N], score float32 [N], source_tokens object
            [N, S], target_tokens object [N, T], attention float32 [N, T, S], truncated bool [N];
            shorter rows end with empty tokens.

    Raises:
        ContractError: The attention has another size than the tokens.
    """
    sources, targets = prediction["source_tokens"], prediction["target_tokens"]
    _check_shape(prediction, "attention", (*targets.shape, sources.shape[1]))
    names = ("translation", "score", "source_tokens", "target_tokens", "attention", "truncated")
    rows = zip(texts, *(prediction[name] for name in names), strict=True)
    return [_attention_result(*row) for row in rows]


def _translate(
    served: ServedModel,
    texts: Sequence[str],
    beam_width: int | None,
    max_length: int | None,
    alternatives: int | None,
) -> Script[list[TranslationResult]]:
    inputs = {
        "text": encode_texts(texts, for_one="translate_one"),
        **_options(beam_width=beam_width, max_length=max_length, alternatives=alternatives),
    }
    return (yield from _ask(served, texts, inputs, SERVING_DEFAULT, read_translations))


def _attention(
    served: ServedModel, texts: Sequence[str], beam_width: int | None, max_length: int | None
) -> Script[list[AttentionResult]]:
    inputs = {
        "text": encode_texts(texts, for_one="attention_one"),
        **_options(beam_width=beam_width, max_length=max_length),
    }
    return (yield from _ask(served, texts, inputs, ATTENTION, read_attention))


def _ask(
    served: ServedModel,
    texts: Sequence[str],
    inputs: Mapping[str, npt.NDArray[Any]],
    signature: str,
    read: Callable[[Sequence[str], Prediction], list[Result]],
) -> Script[list[Result]]:
    encoded = inputs["text"]
    results: dict[int, Result] = {}
    for rows in _batches_by_length(encoded, served.batch_size):
        batch = {**inputs, "text": encoded[rows]}
        prediction = yield from served.ask(batch, len(rows), signature)
        results.update(zip(rows, read([texts[row] for row in rows], prediction), strict=True))
    return [results[row] for row in range(len(texts))]


def _batches_by_length(encoded: npt.NDArray[np.object_], size: int) -> Iterator[list[int]]:
    """Yields the rows of each batch, shortest texts first: a batch takes as long as its longest."""
    order = sorted(range(len(encoded)), key=lambda row: len(encoded[row]))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _options(**numbers: int | None) -> dict[str, npt.NDArray[np.int32]]:
    """Returns the numbers that are given as inputs of the model.

    Raises:
        InvalidRequestError: One is not a whole number, or too small.
    """
    return {name: _option(name, value) for name, value in numbers.items() if value is not None}


def _option(name: str, value: int) -> npt.NDArray[np.int32]:
    number = np.asarray(value)
    if number.ndim or number.dtype.kind not in "iu" or not _LOWEST[name] <= number <= _HIGHEST:
        raise InvalidRequestError(
            f"{name}: expected a whole number from {_LOWEST[name]}, got {value!r}"
        )
    return number.astype(np.int32)


def _check_shape(prediction: Prediction, name: str, expected: tuple[int, ...]) -> None:
    found = prediction[name].shape
    if found != expected:
        raise ContractError(
            f"output {name!r} of model {prediction.model!r}: expected the shape {list(expected)} "
            f"that its other outputs have, got {list(found)}"
        )


def _translation_result(
    text: str,
    translation: bytes,
    score: np.float32,
    alternatives: npt.NDArray[np.object_],
    alternative_scores: npt.NDArray[np.float32],
    truncated: np.bool_,
) -> TranslationResult:
    pairs = zip(_decoded(alternatives), alternative_scores.tolist(), strict=True)
    return TranslationResult(
        text=text,
        translation=translation.decode(errors="replace"),
        score=float(score),
        alternatives=tuple(Alternative(*pair) for pair in pairs),
        truncated=bool(truncated),
    )


def _attention_result(
    text: str,
    translation: bytes,
    score: np.float32,
    source_tokens: npt.NDArray[np.object_],
    target_tokens: npt.NDArray[np.object_],
    attention: npt.NDArray[np.float32],
    truncated: np.bool_,
) -> AttentionResult:
    source, target = _own_tokens(source_tokens), _own_tokens(target_tokens)
    return AttentionResult(
        text=text,
        translation=translation.decode(errors="replace"),
        score=float(score),
        source_tokens=source,
        target_tokens=target,
        attention=attention[: len(target), : len(source)].copy(),  # not the whole batch
        truncated=bool(truncated),
    )


def _own_tokens(tokens: npt.NDArray[np.object_]) -> tuple[str, ...]:
    """Returns the tokens of a row without the empty ones at its end."""
    decoded = _decoded(tokens)
    while decoded and not decoded[-1]:
        decoded.pop()
    return tuple(decoded)


def _decoded(values: npt.NDArray[Any]) -> list[str]:
    return [value.decode(errors="replace") for value in values]
