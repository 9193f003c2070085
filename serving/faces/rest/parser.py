"""A JSON parser that speaks RapidJSON's dialect to the letter, whatever the depth.

It reads what libraries refuse (`-NaN`, `Inf`, lone low surrogates, half a million nested lists),
and words errors as RapidJSON does. It is slow: `documents` tries libraries first.
"""

from __future__ import annotations

import math
import re
from typing import Any

from protocol.errors import InvalidRequestError

_SPACE = re.compile(rb"[ \t\n\r]*")
_DIGITS = re.compile(rb"[0-9]*")
_INTEGER = re.compile(rb"0|[1-9][0-9]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_HEX = re.compile(rb"[0-9A-Fa-f]{4}")
_LITERALS = {b"t": (b"true", True), b"f": (b"false", False), b"n": (b"null", None)}
_ESCAPES = {
    b'"': b'"', b"\\": b"\\", b"/": b"/", b"b": b"\b",
    b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t",
}  # fmt: skip

_LARGEST_INTEGER, _SMALLEST_INTEGER = 2**64 - 1, -(2**63)
_LONGEST_INTEGER = 20  # digits


def parse(data: bytes) -> Any:
    """Reads the first JSON value; what follows it is not looked at.

    Args:
        data: UTF-8; bytes that are not stay in strings as surrogates (`surrogateescape`).

    Returns:
        dict, list, str, int, float, bool or None; integers beyond 64 bits are floats. Of a name
        given twice the last one counts, as in Python's parsers; RapidJSON finds the first.

    Raises:
        InvalidRequestError: The text is no JSON; the message has RapidJSON's words and offset.
    """
    return _Parser(data).document()


def to_integer(text: str | bytes) -> int | float:
    """The value of an integer's text, a float where 64 bits do not hold it.

    Raises:
        ValueError: Not even a float holds it.
    """
    if len(text) <= _LONGEST_INTEGER:
        number = int(text)
        if _SMALLEST_INTEGER <= number <= _LARGEST_INTEGER:
            return number
    return to_float(text)


def to_float(text: str | bytes) -> float:
    """The value of a number's text.

    Raises:
        ValueError: It is too big.
    """
    value = float(text)
    if math.isinf(value):
        raise ValueError("the number is too big")
    return value


class _Parser:
    """Walks along the bytes; `_holders` are the containers that are open."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._holders: list[Any] = []
        self._names: list[str] = []

    def document(self) -> Any:
        self._skip_space()
        if self._peek() in (b"", b"\0"):
            raise self._error("The document is empty.")
        while True:
            value, is_open = self._value()
            if is_open:
                continue
            while self._holders:
                holder = self._holders[-1]
                if isinstance(holder, list):
                    holder.append(value)
                    goes_on = self._after_element()
                else:
                    holder[self._names.pop()] = value
                    goes_on = self._after_member()
                if goes_on:
                    break
                value = self._holders.pop()
            else:
                return value

    # Containers.

    def _value(self) -> tuple[Any, bool]:
        """The next value, and whether it is a container whose first element follows."""
        sign = self._peek()
        if sign == b"[":
            return self._open([], b"]")
        if sign == b"{":
            return self._open({}, b"}")
        if sign == b'"':
            return self._string(), False
        if sign in _LITERALS:
            return self._literal(*_LITERALS[sign]), False
        return self._number(), False

    def _open(self, holder: Any, end: bytes) -> tuple[Any, bool]:
        self._at += 1
        self._skip_space()
        if self._take(end):
            return holder, False
        self._holders.append(holder)
        if end == b"}":
            self._name()
        return holder, True

    def _after_element(self) -> bool:
        self._skip_space()
        if self._take(b"]"):
            return False
        if not self._take(b","):
            raise self._error("Missing a comma or ] after an array element.")
        self._skip_space()
        return True

    def _after_member(self) -> bool:
        self._skip_space()
        if self._take(b"}"):
            return False
        if not self._take(b","):
            raise self._error("Missing a comma or } after an object member.")
        self._skip_space()
        self._name()
        return True

    def _name(self) -> None:
        if self._peek() != b'"':
            raise self._error("Missing a name for object member.")
        self._names.append(self._string())
        self._skip_space()
        if not self._take(b":"):
            raise self._error("Missing a colon after a name of object member.")
        self._skip_space()

    # Scalars.

    def _literal(self, text: bytes, value: Any) -> Any:
        for position in range(len(text)):
            if not self._take(text[position : position + 1]):
                raise self._error("Invalid value.")
        return value

    def _number(self) -> int | float:
        start = self._at
        self._take(b"-")
        if self._peek() in (b"N", b"I"):
            return self._not_finite(-1.0 if self._at > start else 1.0)
        if not self._match(_INTEGER):
            raise self._error("Invalid value.")
        is_integer = True
        if self._take(b"."):
            is_integer = False
            if not self._match(_DIGITS):
                raise self._error("Miss fraction part in number.")
        if self._take(b"e") or self._take(b"E"):
            is_integer = False
            self._take(b"+") or self._take(b"-")
            if not self._match(_DIGITS):
                raise self._error("Miss exponent in number.")
        return self._converted(start, is_integer)

    def _converted(self, start: int, is_integer: bool) -> int | float:
        text = self._data[start : self._at]
        try:
            return to_integer(text) if is_integer else to_float(text)
        except ValueError:
            raise self._error("Number too big to be stored in double.", start) from None

    def _not_finite(self, sign: float) -> float:
        if self._take(b"N"):
            if self._take(b"a") and self._take(b"N"):
                return math.nan
        elif self._take(b"I") and self._take(b"n") and self._take(b"f"):
            if self._peek() == b"i":
                self._literal(b"inity", None)
            return sign * math.inf
        raise self._error("Invalid value.")

    def _string(self) -> str:
        self._at += 1
        parts: list[bytes] = []
        while True:
            parts.append(self._match(_PLAIN))
            if self._take(b'"'):
                return b"".join(parts).decode(errors="surrogateescape")
            if self._peek() in (b"", b"\0"):
                raise self._error("Missing a closing quotation mark in string.")
            if self._peek() != b"\\":
                raise self._error("Invalid encoding in string.")
            parts.append(self._escape())

    def _escape(self) -> bytes:
        start = self._at
        self._at += 1
        sign = self._data[self._at : self._at + 1]
        if sign in _ESCAPES:
            self._at += 1
            return _ESCAPES[sign]
        if sign != b"u":
            raise self._error("Invalid escape character in string.", start)
        self._at += 1
        point = self._hex(start)
        if 0xD800 <= point <= 0xDBFF:
            low = self._hex(start) if self._take(b"\\") and self._take(b"u") else 0
            if not 0xDC00 <= low <= 0xDFFF:
                raise self._error("The surrogate pair in string is invalid.", start)
            point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00)
        return chr(point).encode(errors="surrogatepass")

    def _hex(self, start: int) -> int:
        digits = self._match(_HEX)
        if not digits:
            raise self._error("Incorrect hex digit after \\u escape in string.", start)
        return int(digits, 16)

    # Bytes.

    def _peek(self) -> bytes:
        return self._data[self._at : self._at + 1]

    def _take(self, sign: bytes) -> bool:
        if self._peek() != sign:
            return False
        self._at += 1
        return True

    def _match(self, pattern: re.Pattern[bytes]) -> bytes:
        found = pattern.match(self._data, self._at)
        if found is None:
            return b""
        self._at = found.end()
        return found[0]

    def _skip_space(self) -> None:
        self._match(_SPACE)

    def _error(self, reason: str, offset: int | None = None) -> InvalidRequestError:
        at = self._at if offset is None else offset
        return InvalidRequestError(f"JSON Parse error: {reason} at offset: {at}")
