import pytest

from clients.web.form import ImageField, NumberField, Question, TextField
from protocol.errors import InvalidRequestError

IMAGE = ImageField("image", "Image")
WIDTH = NumberField("width", "Width", 1, 9, 1)


def test_what_was_given() -> None:
    question = Question("any", None, {"image": (b"file",)}, "word", {"width": 3.0})
    assert question.files(IMAGE) == (b"file",)
    assert question.words(TextField("Text", "")) == "word"
    assert question.whole_number(WIDTH) == 3


def test_a_number_may_be_left_out() -> None:
    assert Question("any").whole_number(WIDTH) is None


def test_an_image_must_be_given() -> None:
    with pytest.raises(InvalidRequestError, match="Image: expected a JPEG or PNG file, got none"):
        Question("any").files(IMAGE)


@pytest.mark.parametrize("text", ["", " \n"])
def test_a_text_must_have_words(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="Text: expected some words, got an empty text"):
        Question("any", text=text).words(TextField("Text", ""))
