"""Strings in, UTF-8 out."""

from typing import Any

import pytest

from clients.texts import encode_texts
from protocol.errors import InvalidRequestError


def test_texts_are_bytes_in_their_order() -> None:
    encoded = encode_texts(["a", "", "é\0"], for_one="ask_one")
    assert encoded.dtype == object
    assert encoded.tolist() == [b"a", b"", b"\xc3\xa9\0"]
    assert encode_texts([], for_one="ask_one").shape == (0,)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["fine", b"bytes"], r"texts\[1\]: expected str, got bytes"),
        ([None], r"texts\[0\]: expected str, got NoneType"),
        (["\ud800"], r"texts\[0\] cannot be sent as UTF-8"),
        ("one string", "a list of strings, got one str; use ask_one for a single text"),
        (b"bytes", "a list of strings, got one bytes"),
    ],
)
def test_other_things_are_refused(texts: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        encode_texts(texts, for_one="ask_one")
