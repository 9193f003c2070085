"""Segmentation: an image in, the class of each pixel and the single objects out."""

import asyncio
from collections.abc import Iterator

from clients.drawing import draw_instances, draw_mask
from clients.segmentation import AsyncSegmentationClient, SegmentationResult
from clients.web.answers import Answer, Picture, Share
from clients.web.form import ImageField, Question, View
from clients.web.timing import TimedTransport

_IMAGE = ImageField("image", "Image")


async def ask(transport: TimedTransport, question: Question) -> Answer:
    """Finds the class of each pixel of an image, and counts the objects of each class.

    Raises:
        ServiceError: The image is missing or unreadable, or the call failed.
    """
    [image] = question.files(_IMAGE)
    client = transport.client(AsyncSegmentationClient, question.model, question.version)
    result = await client.segment_one(image)
    return await asyncio.to_thread(_answer, image, result)


def _answer(image: bytes, result: SegmentationResult) -> Answer:
    return Answer(
        headline=f"{result.width} × {result.height} pixels",
        pictures=(
            Picture.of("mask", draw_mask(image, result)),
            *_outlines(image, result),
        ),
        shares=tuple(Share(name, share) for name, share in result.shares.items()),
    )


def _outlines(image: bytes, result: SegmentationResult) -> Iterator[Picture]:
    for name in result.class_names[1:]:
        found = result.instances(name)
        if found.count:
            yield Picture.of(f"{name}: {found.count}", draw_instances(image, found.labels))


VIEW = View(
    purpose="Says of each pixel what it shows, and counts the objects of each class.",
    ask=ask,
    images=(_IMAGE,),
)
