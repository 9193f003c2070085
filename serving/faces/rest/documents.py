"""The JSON documents of requests, and how errors quote them.

The dialect is TensorFlow Serving's: NaN, Infinity and -Infinity are numbers, what follows the
closing brace is not looked at, and depth has no limit.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any, NoReturn

import orjson

from protocol.errors import InvalidRequestError
from serving.faces.rest.parser import parse, to_float, to_integer

EXCERPT_BYTES = 256
_INDENT = " " * 4
_TYPE_NAMES: dict[type, str] = {str: "String", list: "Array", dict: "Object"}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_document(body: bytes) -> dict[str, Any]:
    """Reads the JSON object of a request.

    Args:
        body: UTF-8; other bytes stay in strings as surrogates (`surrogateescape`).

    Raises:
        InvalidRequestError: The body is no JSON, or its value is no object.
    """
    if not body:
        raise InvalidRequestError("JSON Parse error: The document is empty")
    try:
        document = orjson.loads(body)
    except ValueError:
        document = _read_dialect(body.removeprefix(_BYTE_ORDER_MARK))
    if not isinstance(document, dict):
        raise format_error(document, "Is not object")
    return document


def _read_dialect(body: bytes) -> Any:
    """Reads what strict JSON is not: by the standard library, which knows most of it."""
    if b"\\ud" not in body and b"\\uD" not in body:  # it takes broken surrogate pairs
        text = body.decode(errors="surrogateescape")
        try:
            return _DECODER.raw_decode(text, len(text) - len(text.lstrip(" \t\n\r")))[0]
        except (ValueError, RecursionError):
            pass
    return parse(body)


_DECODER = json.JSONDecoder(parse_int=to_integer, parse_float=to_float)


def signature_name(document: dict[str, Any]) -> str:
    """The signature that a request asks for; empty for the default one.

    Raises:
        InvalidRequestError: `signature_name` is no string.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise format_error(
            document, "not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def text_bytes(text: str) -> bytes:
    """The bytes that a string of a document stands for."""
    return text.encode(errors="surrogateescape")


def type_name(value: Any) -> str:
    """RapidJSON's name of a value's type."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return str(value)
    return _TYPE_NAMES.get(type(value), "Number")


def format_error(value: Any, reason: str) -> InvalidRequestError:
    """An error that quotes a value."""
    return InvalidRequestError(f"JSON Value: {excerpt(value)} {reason}")


def excerpt(value: Any) -> str:
    """The beginning of a value's text: lists on one line, objects on several."""
    quote = _Excerpt()
    with contextlib.suppress(_FullError):
        quote.write(value, 0)
    return quote.text()


class _FullError(Exception):
    """An excerpt is long enough."""


class _Excerpt:
    """Writes a value until it is full, so that its depth is bounded as well."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._size = 0

    def write(self, value: Any, level: int) -> None:
        if isinstance(value, list):
            self._put("[")
            for position, item in enumerate(value):
                self._put(", " if position else "")
                self.write(item, level + 1)
            self._put("]")
        elif isinstance(value, dict):
            self._write_object(value, level)
        else:
            # Cut first: a scalar may be megabytes long.
            short = value[:EXCERPT_BYTES] if isinstance(value, str) else value
            self._put(json.dumps(short, ensure_ascii=False))

    def text(self) -> str:
        """What was written, cut at a character's end."""
        data = "".join(self._parts).encode(errors="surrogateescape")[:EXCERPT_BYTES]
        return data.decode(errors="ignore")

    def _write_object(self, value: dict[str, Any], level: int) -> None:
        self._put("{")
        for position, (name, item) in enumerate(value.items()):
            self._put(("," if position else "") + "\n" + _INDENT * (level + 1))
            self.write(name, level + 1)
            self._put(": ")
            self.write(item, level + 1)
        self._put(("\n" + _INDENT * level if value else "") + "}")

    def _put(self, text: str) -> None:
        self._parts.append(text)
        self._size += len(text)
        if self._size >= EXCERPT_BYTES:
            raise _FullError


def refuse_type(value: Any, expected: str) -> NoReturn:
    """Refuses a value of the wrong type.

    Raises:
        InvalidRequestError: Always.
    """
    raise format_error(value, f"Type: {type_name(value)} is not of expected type: {expected}")
