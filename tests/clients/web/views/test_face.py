import pytest

from clients.web.form import Question
from clients.web.timing import TimedTransport
from clients.web.views import face
from protocol.errors import InvalidRequestError
from tests.clients.fake_models import THRESHOLDS, plain, png

RUBY, RUBY_AGAIN, OLIVE = png(plain(200, 20, 20)), png(plain(190, 20, 20)), png(plain(20, 200, 20))
IMAGES = {"face": (RUBY,), "others": (OLIVE, RUBY_AGAIN)}


async def test_matches_come_nearest_first(transport: TimedTransport) -> None:
    answer = await face.ask(transport, Question("face", images=IMAGES))
    assert answer.headline == "1 of 2 match"
    assert answer.notes == (f"threshold {THRESHOLDS[0]:.3f} (false accepts 1.0%)",)
    assert [picture.caption for picture in answer.pictures] == ["face 2", "face 1"]
    assert answer.table is not None
    assert [row[:2] for row in answer.table.rows] == [
        ("2", "same person"),
        ("1", "different people"),
    ]


async def test_a_threshold_of_ones_own(transport: TimedTransport) -> None:
    question = Question("face", images=IMAGES, numbers={"threshold": 4.0})
    answer = await face.ask(transport, question)
    assert answer.headline == "2 of 2 match"
    assert answer.notes == ("threshold 4.000",)


async def test_nobody_to_compare_with(transport: TimedTransport) -> None:
    with pytest.raises(InvalidRequestError, match="Faces to compare it with: expected"):
        await face.ask(transport, Question("face", images={"face": (RUBY,)}))
