"""What the page shows of an answer, whatever the task."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

_LONGEST_SIDE = 1600  # pixels; larger pictures are shown smaller


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture with a line below it.

    Args:
        caption: What it shows.
        data_url: The picture itself, a PNG in a `data:` address.
    """

    caption: str
    data_url: str

    @classmethod
    def of(cls, caption: str, image: "Image") -> "Picture":
        """Encodes a picture, smaller where a side has more than 1600 pixels."""
        shown = image.copy()
        shown.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
        file = io.BytesIO()
        shown.save(file, format="PNG")
        return cls(caption, "data:image/png;base64," + base64.b64encode(file.getvalue()).decode())


@dataclass(frozen=True)
class Share:
    """A part of a whole, shown as a bar.

    Args:
        name: What it is the share of.
        value: The share, in [0, 1].
    """

    name: str
    value: float


@dataclass(frozen=True)
class Table:
    """Rows of text below the names of their columns."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Answer:
    """What a model says to one question.

    Args:
        headline: The answer in a few words.
        notes: Further sentences.
        pictures: Drawings of it.
        shares: Probabilities, or shares of an image.
        table: Its details.
    """

    headline: str
    notes: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    shares: tuple[Share, ...] = ()
    table: Table | None = None
