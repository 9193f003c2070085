"""What the demo does with a served model of each task."""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Mapping

from clients import report
from clients.commands.images import PictureFolder
from clients.demo.latency import LatencySummary, time_concurrent, time_sequential
from clients.demo.repository import PublishedModel
from clients.demo.translation import demo_translation
from clients.demo.vision import demo_detection, demo_face, demo_segmentation
from clients.sentiment import AsyncSentimentClient, SentimentClient

Demo = Callable[[str, PublishedModel, PictureFolder], Iterator[str]]

_CALLS = 200
_CONCURRENT_CALLS = 640
_CONCURRENCY = 32
_TEXT_WIDTH = 60

_REVIEWS = (
    "A warm, clever film that earns every one of its laughs.",
    "I kept looking at my watch. Nothing happens, and it takes two hours to do so.",
    "The acting is wooden and the plot makes no sense, but the music is lovely.",
    "Not bad at all. Quite good, in fact!",
    "I wanted to like it. I really did.",
    "Une très jolie surprise \N{SMILING FACE WITH SMILING EYES}",
    "",
    "It begins slowly, with a train in the rain. " * 150 + "In the end I loved every minute.",
)


def demo_sentiment(target: str, model: PublishedModel, pictures: PictureFolder) -> Iterator[str]:
    """Yields the answers to some reviews, then how fast single ones are answered."""
    with SentimentClient(target, model=model.name) as client:
        results = client.classify(_REVIEWS)
        yield from report.table(
            [
                ("LABEL", "PROBABILITY", "TRUNCATED", "TEXT"),
                *(
                    (
                        result.label,
                        f"{result.probability:.3f}",
                        "yes" if result.truncated else "no",
                        report.shortened(result.text, _TEXT_WIDTH) or "(empty)",
                    )
                    for result in results
                ),
            ]
        )
        yield ""
        texts = itertools.islice(itertools.cycle(_REVIEWS[:6]), _CALLS)
        yield time_sequential(client.classify_one, texts).line("one at a time")
    yield asyncio.run(_time_async(target, model.name)).line(f"{_CONCURRENCY} at a time")


DEMOS: Mapping[str, Demo] = {
    "sentiment": demo_sentiment,
    "translation": demo_translation,
    "detection": demo_detection,
    "segmentation": demo_segmentation,
    "face": demo_face,
}
"""Task -> function of the server's address, the model and where to save pictures.

It yields lines to print.
"""


async def _time_async(target: str, model: str) -> LatencySummary:
    texts = itertools.islice(itertools.cycle(_REVIEWS[:6]), _CONCURRENT_CALLS)
    async with AsyncSentimentClient(target, model=model) as client:
        return await time_concurrent(client.classify_one, texts, _CONCURRENCY)
