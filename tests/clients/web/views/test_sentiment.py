import numpy as np
import pytest

from clients.web.answers import Share
from clients.web.form import Question
from clients.web.timing import TimedTransport
from clients.web.views import sentiment
from protocol import services
from protocol.errors import InvalidRequestError
from tests.clients.conftest import MAX_TOKENS, FakeServer, predict_response


def rounded(shares: tuple[Share, ...]) -> list[tuple[str, float]]:
    return [(share.name, round(share.value, 3)) for share in shares]


async def test_probabilities(transport: TimedTransport) -> None:
    answer = await sentiment.ask(transport, Question("sentiment", text="a good film"))
    assert answer.headline == "positive 90.0%"
    assert answer.notes == ("3 tokens",)
    assert rounded(answer.shares) == [("not positive", 0.1), ("positive", 0.9)]


async def test_more_than_two_classes(server: FakeServer, transport: TimedTransport) -> None:
    outputs = {
        "label": np.array([b"mixed"], object),
        "probability": np.array([[0.2, 0.5, 0.3]], np.float32),
        "tokens": np.array([1], np.int32),
        "truncated": np.array([False]),
    }
    server.behaviours[services.PREDICT] = lambda request, _: predict_response(request, outputs)
    answer = await sentiment.ask(transport, Question("sentiment", text="so so"))
    assert rounded(answer.shares) == [("class 0", 0.2), ("mixed", 0.5), ("class 2", 0.3)]


async def test_a_text_that_is_too_long(transport: TimedTransport) -> None:
    answer = await sentiment.ask(transport, Question("sentiment", text="w " * (MAX_TOKENS + 1)))
    assert answer.notes[1] == "The text was too long: the model read only parts of it."


async def test_a_blank_text(transport: TimedTransport) -> None:
    with pytest.raises(InvalidRequestError, match="Text to judge: expected some words"):
        await sentiment.ask(transport, Question("sentiment", text=""))
