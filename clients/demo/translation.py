"""What the demo does with the models that translate: sentences to French, dates to ISO 8601."""

import asyncio
from collections.abc import Iterator, Sequence

from clients import report
from clients.commands.images import PictureFolder
from clients.demo.latency import LatencySummary, repeated, time_concurrent, time_sequential
from clients.demo.repository import PublishedModel
from clients.heat_map import draw_attention
from clients.translation import AsyncTranslationClient, TranslationClient

_TIMED_S = 2.0
_CONCURRENCY = 8
_TEXT_WIDTH = 48

_SENTENCES = (
    "The cat is sleeping on the sofa.",
    "I would like a cup of coffee, please.",
    "Where is the train station?",
    "She has lived in Paris since she was ten years old.",
    "If it rains tomorrow, we will stay at home and read.",
    "Don't forget to close the window.",
    "",
    "Привет, мир! 你好！",
    "We walked along the river, and then we sat in the sun. " * 20 + "In the end we went home.",
)
_DATES = (
    "3 mai 1979",
    "Tuesday, April 8, 2014",
    "09/12/23",
    "samedi 1 janvier 2000",
    "21st of August 2016",
    "24. Dezember 1999",
    "5 de marzo de 2011",
    "5 апреля 1961 г.",
    "30.6.87",
    "2024-02-29",
)
_DRAWN = 3  # the place of the text whose attention is drawn
_TIMED = 6  # the first ones are timed


def demo_translation(target: str, model: PublishedModel, pictures: PictureFolder) -> Iterator[str]:
    """Yields translations of some texts, where an attention map is saved, and how fast."""
    texts = demo_texts(model.name)
    with TranslationClient(target, model=model.name) as client:
        yield from report.table(
            [
                ("TEXT", "TRANSLATION", "SCORE", "TRUNCATED"),
                *(
                    (
                        report.shortened(result.text, _TEXT_WIDTH) or "(empty)",
                        report.shortened(result.translation, _TEXT_WIDTH) or "(empty)",
                        f"{result.score:z.3f}",
                        "yes" if result.truncated else "no",
                    )
                    for result in client.translate(texts)
                ),
            ]
        )
        drawn = texts[_DRAWN]
        saved = pictures.save(
            "text", "attention", lambda: draw_attention(client.attention_one(drawn))
        )
        yield from report.saved_lines(saved)
        yield ""
        timed = repeated(texts[:_TIMED], _TIMED_S)
        yield time_sequential(client.translate_one, timed).line("one at a time")
    yield asyncio.run(_time_async(target, model.name)).line(f"{_CONCURRENCY} at a time")


def demo_texts(model: str) -> Sequence[str]:
    """Returns what a model is asked: dates if its name says so, else English sentences."""
    return _DATES if "dates" in model else _SENTENCES


async def _time_async(target: str, model: str) -> LatencySummary:
    timed = repeated(demo_texts(model)[:_TIMED], _TIMED_S)
    async with AsyncTranslationClient(target, model=model) as client:
        return await time_concurrent(client.translate_one, timed, _CONCURRENCY)
