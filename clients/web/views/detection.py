"""Detection: an image in, boxes with labels and scores out."""

import asyncio

from clients.detection import AsyncDetectionClient, Detection, DetectionResult
from clients.drawing import draw_detections
from clients.web.answers import Answer, Picture, Table
from clients.web.form import ImageField, NumberField, Question, View
from clients.web.timing import TimedTransport

_IMAGE = ImageField("image", "Image")
_SCORE = NumberField("score_threshold", "Lowest score", 0, 1, 0.05)
_COLUMNS = ("label", "score", "left", "top", "right", "bottom")


async def ask(transport: TimedTransport, question: Question) -> Answer:
    """Finds the objects in an image.

    Raises:
        ServiceError: The image is missing or unreadable, or the call failed.
    """
    [image] = question.files(_IMAGE)
    client = transport.client(AsyncDetectionClient, question.model, question.version)
    result = await client.detect_one(image, score_threshold=question.numbers.get(_SCORE.name))
    return await asyncio.to_thread(_answer, image, result)


def _answer(image: bytes, result: DetectionResult) -> Answer:
    counts = ", ".join(f"{count} {label}" for label, count in result.counts.items())
    return Answer(
        headline=counts or "nothing found",
        pictures=(Picture.of("boxes", draw_detections(image, result)),),
        table=Table(_COLUMNS, [_row(found) for found in result.detections]),
    )


def _row(found: Detection) -> tuple[str, ...]:
    return (found.label, f"{found.score:.3f}", *(f"{edge:.1f}" for edge in found.box_xyxy))


VIEW = View(
    purpose="Finds objects in an image: boxes in pixels, with labels and scores.",
    ask=ask,
    images=(_IMAGE,),
    numbers=(_SCORE,),
)
