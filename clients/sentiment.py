"""Sentiment of texts: clients that turn strings into labelled, typed results."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clients.calls import Prediction
from clients.texts import encode_texts
from clients.typed import AsyncTaskClient, Script, ServedModel, TaskClient, TaskSpec
from protocol.contracts import SENTIMENT

_SPEC = TaskSpec(SENTIMENT, batch_size=32)


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


class SentimentClient(TaskClient):
    """Classifies texts with a served sentiment model; see `TaskClient` for the arguments."""

    spec = _SPEC

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
        return self._run(_classify(self._served, texts), timeout_s)

    def classify_one(self, text: str, *, timeout_s: float | None = None) -> SentimentResult:
        """Classifies one text; see `classify`."""
        return self.classify([text], timeout_s=timeout_s)[0]


class AsyncSentimentClient(AsyncTaskClient):
    """The asyncio twin of `SentimentClient`: the same methods, awaited."""

    spec = _SPEC

    async def classify(
        self, texts: Sequence[str], *, timeout_s: float | None = None
    ) -> list[SentimentResult]:
        """Classifies texts; see `SentimentClient.classify`."""
        return await self._run(_classify(self._served, texts), timeout_s)

    async def classify_one(self, text: str, *, timeout_s: float | None = None) -> SentimentResult:
        """Classifies one text; see `classify`."""
        return (await self.classify([text], timeout_s=timeout_s))[0]


def read_results(texts: Sequence[str], prediction: Prediction) -> list[SentimentResult]:
    """Reads the answers to `texts` out of a prediction.

    Args:
        texts: The texts that were sent, N of them.
        prediction: Outputs label object [N], probability float32 [N, classes], tokens int32 [N]
            and truncated bool [N].
    """
    rows = zip(
        texts,
        prediction["label"],
        prediction["probability"],
        prediction["tokens"],
        prediction["truncated"],
        strict=True,
    )
    return [_result(*row) for row in rows]


def _classify(served: ServedModel, texts: Sequence[str]) -> Script[list[SentimentResult]]:
    encoded = encode_texts(texts, for_one="classify_one")
    results: list[SentimentResult] = []
    for start in range(0, len(texts), served.batch_size):
        rows = slice(start, start + served.batch_size)
        prediction = yield from served.ask({"text": encoded[rows]}, len(encoded[rows]))
        results += read_results(texts[rows], prediction)
    return results


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
