import pytest

from protocol.errors import InvalidRequestError
from protocol.messages import PredictRequest
from serving.faces.rpc import parse, status_text


def test_long_texts_are_cut() -> None:
    assert status_text("a" * 1024) == "a" * 1024
    assert status_text("a" * 1025) == "a" * 1024 + "...TRUNCATED"


def test_bytes_that_are_no_message_are_the_callers_fault() -> None:
    message = r"The body of the request \(3 bytes\) is not a tensorflow\.serving\.PredictRequest"
    with pytest.raises(InvalidRequestError, match=message):
        parse(PredictRequest, b"\xff\xff\xff")
