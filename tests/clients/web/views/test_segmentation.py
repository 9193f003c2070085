from clients.web.answers import Share
from clients.web.form import Question
from clients.web.timing import TimedTransport
from clients.web.views import segmentation
from tests.clients.fake_models import plain, png, red_box


def question(pixels: object) -> Question:
    return Question("segmentation", images={"image": (png(pixels),)})


async def test_mask_and_objects(transport: TimedTransport) -> None:
    answer = await segmentation.ask(transport, question(red_box()))
    assert answer.headline == "30 × 20 pixels"
    assert [picture.caption for picture in answer.pictures] == ["mask", "nucleus: 1"]
    assert answer.shares == (Share("background", 0.9), Share("nucleus", 0.1))


async def test_an_image_without_objects(transport: TimedTransport) -> None:
    answer = await segmentation.ask(transport, question(plain(0, 0, 0)))
    assert [picture.caption for picture in answer.pictures] == ["mask"]
