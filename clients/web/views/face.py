"""Faces: one face in, compared with others, nearest first."""

import asyncio
from collections.abc import Sequence

from clients.drawing import draw_verification
from clients.embeddings import FALSE_ACCEPT_RATES, FaceEmbedding, Verification, compare
from clients.face import AsyncFaceClient
from clients.report import limit_text
from clients.web.answers import Answer, Picture, Table
from clients.web.form import ImageField, NumberField, Question, View
from clients.web.timing import TimedTransport

_FACE = ImageField("face", "Face")
_OTHERS = ImageField("others", "Faces to compare it with", many=True)
_THRESHOLD = NumberField("threshold", "Largest distance of one person", 0, 4, 0.05)
_DRAWN = 6  # nearest faces that are shown as pictures


async def ask(transport: TimedTransport, question: Question) -> Answer:
    """Compares a face with others.

    Raises:
        ServiceError: An image is missing or unreadable, or the call failed.
    """
    [face] = question.files(_FACE)
    others = question.files(_OTHERS)
    client = transport.client(AsyncFaceClient, question.model, question.version)
    first, *found = await client.embed([face, *others])
    verifications = [_verification(first, other, question) for other in found]
    return await asyncio.to_thread(_answer, face, others, verifications)


def _verification(first: FaceEmbedding, other: FaceEmbedding, question: Question) -> Verification:
    threshold = question.numbers.get(_THRESHOLD.name)
    return compare(first, other, far=FALSE_ACCEPT_RATES[0], threshold=threshold)


def _answer(face: bytes, others: Sequence[bytes], verifications: Sequence[Verification]) -> Answer:
    nearest = sorted(range(len(others)), key=lambda place: verifications[place].distance)
    same = sum(found.same for found in verifications)
    return Answer(
        headline=f"{same} of {len(others)} match",
        notes=(limit_text(verifications[0]),),
        pictures=tuple(
            Picture.of(
                f"face {place + 1}", draw_verification(face, others[place], verifications[place])
            )
            for place in nearest[:_DRAWN]
        ),
        table=Table(
            ("face", "verdict", "distance"),
            [_row(place, verifications[place]) for place in nearest],
        ),
    )


def _row(place: int, found: Verification) -> tuple[str, ...]:
    verdict = "same person" if found.same else "different people"
    return str(place + 1), verdict, f"{found.distance:.3f}"


VIEW = View(
    purpose="Says whether photos show the same person; one upright, centred face in each.",
    ask=ask,
    images=(_FACE, _OTHERS),
    numbers=(_THRESHOLD,),
)
