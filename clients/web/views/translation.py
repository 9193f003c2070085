"""Translation: a text in; its translation, alternatives and a map of attention out."""

import asyncio

from clients.heat_map import draw_attention
from clients.translation import AsyncTranslationClient, AttentionResult, TranslationResult
from clients.web.answers import Answer, Picture, Table
from clients.web.form import NumberField, Question, TextField, View
from clients.web.timing import TimedTransport

_TEXT = TextField("Text to translate", "Where is the station?")
_BEAM_WIDTH = NumberField("beam_width", "Beam width", 1, 16, 1)


async def ask(transport: TimedTransport, question: Question) -> Answer:
    """Translates a text, and asks where the model looked for each token.

    Raises:
        ServiceError: The text is blank, or a call failed.
    """
    text = question.words(_TEXT)
    beam_width = question.whole_number(_BEAM_WIDTH)
    client = transport.client(AsyncTranslationClient, question.model, question.version)
    result = await client.translate_one(text, beam_width=beam_width)
    looked = await client.attention_one(text, beam_width=beam_width)
    return await asyncio.to_thread(_answer, result, looked)


def _answer(result: TranslationResult, looked: AttentionResult) -> Answer:
    rows = [(found.translation, f"{found.score:.3f}") for found in result.alternatives]
    cut = ("The text was too long: the model did not read its end.",) if result.truncated else ()
    return Answer(
        headline=result.translation,
        notes=cut,
        pictures=(Picture.of("attention", draw_attention(looked)),),
        table=Table(("alternative", "score"), rows),
    )


VIEW = View(
    purpose="Translates a text, and shows where it looked for each word of the translation.",
    ask=ask,
    text=_TEXT,
    numbers=(_BEAM_WIDTH,),
)
