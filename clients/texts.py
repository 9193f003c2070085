"""Texts as models take them: strings in, UTF-8 out."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from protocol.errors import InvalidRequestError


def encode_texts(texts: Sequence[str], for_one: str) -> npt.NDArray[np.object_]:
    """Returns texts as a model's input: UTF-8 bytes, object [N].

    Args:
        texts: Any number of texts.
        for_one: The method that takes a single text, for the message.

    Raises:
        InvalidRequestError: `texts` is a single string, or one of them is no valid string.
    """
    if isinstance(texts, (str, bytes)):
        raise InvalidRequestError(
            f"texts: expected a list of strings, got one {type(texts).__name__}; "
            f"use {for_one} for a single text"
        )
    encoded = np.empty(len(texts), dtype=object)
    for index, text in enumerate(texts):
        encoded[index] = _encode(index, text)
    return encoded


def _encode(index: int, text: str) -> bytes:
    if not isinstance(text, str):
        raise InvalidRequestError(f"texts[{index}]: expected str, got {type(text).__name__}")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError(f"texts[{index}] cannot be sent as UTF-8: {error}") from error
