import pytest

from clients.web.form import Question
from clients.web.timing import TimedTransport
from clients.web.views import detection
from protocol.errors import InvalidRequestError
from tests.clients.fake_models import png, red_box

IMAGE = {"image": (png(red_box()),)}


async def test_boxes(transport: TimedTransport) -> None:
    answer = await detection.ask(transport, Question("detection", images=IMAGE))
    assert answer.headline == "1 red"
    assert [picture.caption for picture in answer.pictures] == ["boxes"]
    assert answer.table is not None
    assert answer.table.rows == [("red", "0.900", "5.0", "4.0", "15.0", "10.0")]


async def test_nothing_above_the_score(transport: TimedTransport) -> None:
    question = Question("detection", images=IMAGE, numbers={"score_threshold": 0.95})
    answer = await detection.ask(transport, question)
    assert answer.headline == "nothing found"


@pytest.mark.parametrize("data", [b"", b"no image", png(red_box())[:60]])
async def test_an_unreadable_image(transport: TimedTransport, data: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        await detection.ask(transport, Question("detection", images={"image": (data,)}))


async def test_no_image(transport: TimedTransport) -> None:
    with pytest.raises(InvalidRequestError, match="Image: expected a JPEG or PNG file"):
        await detection.ask(transport, Question("detection"))
    assert transport.calls == []
