"""What the page asks its visitor for, and what the visitor asks the model."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from clients.web.answers import Answer
from clients.web.timing import TimedTransport
from protocol.errors import InvalidRequestError


@dataclass(frozen=True)
class ImageField:
    """A place for images.

    Args:
        name: Key in `Question.images`.
        label: What is written on it.
        many: Whether it takes several.
    """

    name: str
    label: str
    many: bool = False


@dataclass(frozen=True)
class TextField:
    """A place for a text.

    Args:
        label: What is written above it.
        example: What could be typed there.
    """

    label: str
    example: str


@dataclass(frozen=True)
class NumberField:
    """A place for a number that may stay empty, which leaves it to the model.

    Args:
        name: Key in `Question.numbers`.
        label: What is written above it.
        lowest: Smallest number.
        highest: Largest number.
        step: Distance between numbers.
    """

    name: str
    label: str
    lowest: float
    highest: float
    step: float


@dataclass(frozen=True)
class Question:
    """What a visitor asks.

    Args:
        model: Name of the served model.
        version: Exact version; None for the one the server prefers.
        images: Bytes of the uploaded files, by name of their field.
        text: The text.
        numbers: The numbers that were given, by name of their field.
    """

    model: str
    version: int | None = None
    images: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)
    text: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)

    def files(self, wanted: ImageField) -> tuple[bytes, ...]:
        """Returns the images of a field.

        Raises:
            InvalidRequestError: There are none.
        """
        found = self.images.get(wanted.name, ())
        if not found:
            raise InvalidRequestError(f"{wanted.label}: expected a JPEG or PNG file, got none yet")
        return found

    def words(self, wanted: TextField) -> str:
        """Returns the text.

        Raises:
            InvalidRequestError: It is blank.
        """
        if not self.text.strip():
            raise InvalidRequestError(f"{wanted.label}: expected some words, got an empty text")
        return self.text

    def whole_number(self, wanted: NumberField) -> int | None:
        """Returns the number of a field as an integer; None where it was left empty."""
        number = self.numbers.get(wanted.name)
        return None if number is None else round(number)


@dataclass(frozen=True)
class View:
    """How the models of one task are asked, and shown.

    Args:
        purpose: What such a model does, in a sentence.
        ask: Sends a question over a transport and returns what to show. It raises ServiceError.
        images: Places for images.
        text: The place for a text; None where the task takes none.
        numbers: Places for numbers.
    """

    purpose: str
    ask: Callable[[TimedTransport, Question], Awaitable[Answer]]
    images: tuple[ImageField, ...] = ()
    text: TextField | None = None
    numbers: tuple[NumberField, ...] = ()
