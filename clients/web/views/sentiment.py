"""Sentiment: a text in, the probability of each class out."""

from clients.sentiment import AsyncSentimentClient, SentimentResult
from clients.web.answers import Answer, Share
from clients.web.form import Question, TextField, View
from clients.web.timing import TimedTransport

_TEXT = TextField("Text to judge", "A joy from start to end.")


async def ask(transport: TimedTransport, question: Question) -> Answer:
    """Classifies a text.

    Raises:
        ServiceError: The text is blank, or the call failed.
    """
    text = question.words(_TEXT)
    client = transport.client(AsyncSentimentClient, question.model, question.version)
    return _answer(await client.classify_one(text))


def _answer(result: SentimentResult) -> Answer:
    cut = ("The text was too long: the model read only parts of it.",) if result.truncated else ()
    return Answer(
        headline=f"{result.label} {result.probability:.1%}",
        notes=(f"{result.tokens} tokens", *cut),
        shares=_shares(result),
    )


def _shares(result: SentimentResult) -> tuple[Share, ...]:
    """Returns the probability of each class; the model names only the most probable one."""
    best = result.probabilities.index(result.probability)
    return tuple(
        Share(result.label if index == best else _other_name(result, index), probability)
        for index, probability in enumerate(result.probabilities)
    )


def _other_name(result: SentimentResult, index: int) -> str:
    return f"not {result.label}" if len(result.probabilities) == 2 else f"class {index}"


VIEW = View(
    purpose="Says how a text judges its subject, with calibrated probabilities.",
    ask=ask,
    text=_TEXT,
)
