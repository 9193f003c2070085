import pytest

from clients.web.form import Question
from clients.web.timing import TimedTransport
from clients.web.views import translation
from protocol.errors import InvalidRequestError
from tests.clients.fake_models import MAX_WORDS


async def test_alternatives_and_attention(transport: TimedTransport) -> None:
    question = Question("translation", text="one two", numbers={"beam_width": 2.0})
    answer = await translation.ask(transport, question)
    assert answer.headline == "TWO ONE"
    assert answer.notes == ()
    assert answer.table is not None
    assert answer.table.rows == [("TWO ONE", "0.000"), ("TWO ONE!", "-1.000")]
    assert [picture.caption for picture in answer.pictures] == ["attention"]
    assert len(transport.calls) == 2


async def test_a_text_that_is_too_long(transport: TimedTransport) -> None:
    question = Question("translation", text="word " * (MAX_WORDS + 1))
    answer = await translation.ask(transport, question)
    assert answer.notes == ("The text was too long: the model did not read its end.",)


async def test_a_blank_text(transport: TimedTransport) -> None:
    with pytest.raises(InvalidRequestError, match="Text to translate: expected some words"):
        await translation.ask(transport, Question("translation", text=" "))
    assert transport.calls == []
