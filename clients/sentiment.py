"""Sentiment of texts: clients that turn strings into labelled, typed results."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from clients.calls import ModelMetadata, Prediction
from clients.config import DEFAULT_TARGET, ClientConfig
from clients.predict import AsyncPredictClient, PredictClient
from clients.transport import CallObserver
from protocol.contracts import SENTIMENT, SERVING_DEFAULT, TensorSpec, check_signature
from protocol.errors import ContractError, InvalidRequestError

DEFAULT_MODEL = "sentiment"
DEFAULT_BATCH_SIZE = 32
_SIGNATURE = SENTIMENT.signature(SERVING_DEFAULT)


@dataclass(frozen=True)
class SentimentResult:
    """What the model says about one text.

    Args:
        text: The text as it was given.
        label: The most probable class.
        probability: Its probability, in [0, 1].
        probabilities: Probabilities of all classes, in the model's order.
        tokens: Number of words the model counted, before any were cut off.
        truncated: Whether the text was too long and the model read only parts of it.
    """

    text: str
    label: str
    probability: float
    probabilities: tuple[float, ...]
    tokens: int
    truncated: bool


class SentimentClient:
    """Classifies texts with a served sentiment model.

    Args:
        target: Address such as `localhost:8500`, or a whole config.
        model: Name under which the model is served.
        version: Exact version; None for the one the server prefers.
        label: Version label, instead of `version`.
        batch_size: Texts sent in one call.
        metrics: Is told about every call; see `clients.metrics.ClientMetrics`.

    Raises:
        ValueError: `batch_size` is less than 1.
    """

    def __init__(
        self,
        target: str | ClientConfig = DEFAULT_TARGET,
        *,
        model: str = DEFAULT_MODEL,
        version: int | None = None,
        label: str | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        metrics: CallObserver | None = None,
    ) -> None:
        self._batch_size = _checked_batch_size(batch_size)
        self._model = model
        self._version = version
        self._label = label
        self._client = PredictClient(target, metrics=metrics)

    def __enter__(self) -> "SentimentClient":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def classify(
        self, texts: Sequence[str], *, timeout_s: float | None = None
    ) -> list[SentimentResult]:
        """Classifies texts; answer i belongs to text i.

        Long lists are sent in chunks of `batch_size`, one after another.

        Args:
            texts: Any number of texts; an empty list gives an empty list, an empty text is fine.
            timeout_s: Deadline of each chunk in seconds; None takes the config's.

        Raises:
            InvalidRequestError: Something in `texts` is not a string; nothing was sent.
            ContractError: The served model is not a sentiment model.
            ServiceError: The call failed; the class tells the gRPC status.
        """
        encoded = encode_texts(texts)
        results: list[SentimentResult] = []
        for rows in _chunks(len(texts), self._batch_size):
            prediction = self._client.predict(
                self._model,
                {"text": encoded[rows]},
                version=self._version,
                label=self._label,
                timeout_s=timeout_s,
            )
            try:
                results += read_results(texts[rows], prediction)
            except ContractError:
                check_served(self._client.metadata(self._model, version=prediction.version))
                raise
        return results

    def classify_one(self, text: str, *, timeout_s: float | None = None) -> SentimentResult:
        """Classifies one text; see `classify`."""
        return self.classify([text], timeout_s=timeout_s)[0]

    def close(self) -> None:
        """Closes the connection; calls in progress are cancelled."""
        self._client.close()


class AsyncSentimentClient:
    """The asyncio twin of `SentimentClient`: the same methods, awaited.

    Args:
        target: Address such as `localhost:8500`, or a whole config.
        model: Name under which the model is served.
        version: Exact version; None for the one the server prefers.
        label: Version label, instead of `version`.
        batch_size: Texts sent in one call.
        metrics: Is told about every call; see `clients.metrics.ClientMetrics`.

    Raises:
        ValueError: `batch_size` is less than 1.
    """

    def __init__(
        self,
        target: str | ClientConfig = DEFAULT_TARGET,
        *,
        model: str = DEFAULT_MODEL,
        version: int | None = None,
        label: str | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        metrics: CallObserver | None = None,
    ) -> None:
        self._batch_size = _checked_batch_size(batch_size)
        self._model = model
        self._version = version
        self._label = label
        self._client = AsyncPredictClient(target, metrics=metrics)

    async def __aenter__(self) -> "AsyncSentimentClient":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def classify(
        self, texts: Sequence[str], *, timeout_s: float | None = None
    ) -> list[SentimentResult]:
        """Classifies texts; see `SentimentClient.classify`."""
        encoded = encode_texts(texts)
        results: list[SentimentResult] = []
        for rows in _chunks(len(texts), self._batch_size):
            prediction = await self._client.predict(
                self._model,
                {"text": encoded[rows]},
                version=self._version,
                label=self._label,
                timeout_s=timeout_s,
            )
            try:
                results += read_results(texts[rows], prediction)
            except ContractError:
                check_served(await self._client.metadata(self._model, version=prediction.version))
                raise
        return results

    async def classify_one(self, text: str, *, timeout_s: float | None = None) -> SentimentResult:
        """Classifies one text; see `classify`."""
        return (await self.classify([text], timeout_s=timeout_s))[0]

    async def close(self) -> None:
        """Closes the connection; calls in progress are cancelled."""
        await self._client.close()


def encode_texts(texts: Sequence[str]) -> npt.NDArray[np.object_]:
    """Returns texts as the model's input: UTF-8 bytes, object [N].

    Raises:
        InvalidRequestError: `texts` is a single string, or one of them is no valid string.
    """
    if isinstance(texts, (str, bytes)):
        raise InvalidRequestError(
            f"texts: expected a list of strings, got one {type(texts).__name__}; "
            "use classify_one for a single text"
        )
    encoded = np.empty(len(texts), dtype=object)
    for index, text in enumerate(texts):
        encoded[index] = _encode(index, text)
    return encoded


def read_results(texts: Sequence[str], prediction: Prediction) -> list[SentimentResult]:
    """Reads the answers to `texts` out of a prediction.

    Args:
        texts: The texts that were sent, N of them.
        prediction: Outputs label object [N], probability float32 [N, classes], tokens int32 [N]
            and truncated bool [N].

    Raises:
        ContractError: An output is missing, or its dtype or shape is another.
    """
    columns = {spec.name: _column(prediction, spec, len(texts)) for spec in _SIGNATURE.outputs}
    rows = zip(
        texts,
        columns["label"],
        columns["probability"],
        columns["tokens"],
        columns["truncated"],
        strict=True,
    )
    return [_result(*row) for row in rows]


def check_served(metadata: ModelMetadata) -> None:
    """Compares what is served with the contract of the sentiment task.

    Raises:
        ContractError: The model has no such signature, or it differs; all differences are named.
    """
    found = metadata.signatures.get(SERVING_DEFAULT)
    if found is None:
        raise ContractError(
            f"model {metadata.model!r} version {metadata.version} has no signature "
            f"{SERVING_DEFAULT!r}; it has: {', '.join(metadata.signatures) or 'none'}"
        )
    check_signature(_SIGNATURE, found)


def _checked_batch_size(batch_size: int) -> int:
    if batch_size < 1:
        raise ValueError(f"batch_size: expected 1 or more, got {batch_size}")
    return batch_size


def _chunks(count: int, size: int) -> Iterator[slice]:
    """Yields consecutive slices of at most `size` that cover range(count)."""
    for start in range(0, count, size):
        yield slice(start, start + size)


def _encode(index: int, text: str) -> bytes:
    if not isinstance(text, str):
        raise InvalidRequestError(f"texts[{index}]: expected str, got {type(text).__name__}")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError(f"texts[{index}] cannot be sent as UTF-8: {error}") from error


def _column(prediction: Prediction, spec: TensorSpec, rows: int) -> npt.NDArray[Any]:
    """Returns one output after checking it against the contract."""
    column = prediction.outputs.get(spec.name)
    if column is None:
        found = ", ".join(sorted(prediction.outputs)) or "none"
        raise ContractError(
            f"model {prediction.model!r} answered without output {spec.name!r}; "
            f"its outputs: {found}"
        )
    dtype = np.dtype(object if spec.dtype == "string" else spec.dtype)
    if column.dtype != dtype or column.ndim != len(spec.shape) or len(column) != rows:
        raise ContractError(
            f"output {spec.name!r} of model {prediction.model!r}: expected {spec.dtype} of rank "
            f"{len(spec.shape)} with {rows} rows, got {column.dtype} of shape {list(column.shape)}"
        )
    return column


def _result(
    text: str,
    label: bytes,
    probabilities: npt.NDArray[np.float32],
    tokens: np.int32,
    truncated: np.bool_,
) -> SentimentResult:
    values = tuple(float(value) for value in probabilities)
    return SentimentResult(
        text=text,
        label=label.decode(errors="replace"),
        probability=max(values),
        probabilities=values,
        tokens=int(tokens),
        truncated=bool(truncated),
    )
