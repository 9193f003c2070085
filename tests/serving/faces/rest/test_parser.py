import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import InvalidRequestError
from serving.faces.rest.parser import parse

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)  # fmt: skip


@given(values, st.sampled_from([None, 1]), st.booleans())
def test_reads_what_the_standard_library_writes(value, indent, ascii_only) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    data = text.encode(errors="surrogatepass")
    assert parse(data) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"Infinity", math.inf),
        (b"-Infinity", -math.inf),
        (b"Inf", math.inf),
        (b"-Inf", -math.inf),
        (b"18446744073709551615", 2**64 - 1),
        (b"18446744073709551616", 2.0**64),
        (b"-9223372036854775809", -(2.0**63)),
        (b"1" * 300, float("1" * 300)),
        (b"1e-400", 0.0),
        (b'{"a": 1} and more', {"a": 1}),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\xff\\n"', "\udcff\n"),
    ],
)
def test_dialect(text, value) -> None:
    assert parse(text) == value


def test_not_a_number() -> None:
    assert all(map(math.isnan, parse(b"[NaN, -NaN]")))


def test_a_lone_low_surrogate_is_three_bytes() -> None:
    assert parse(b'"\\udc00"').encode(errors="surrogateescape") == b"\xed\xb0\x80"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"  ", "The document is empty. at offset: 2"),
        (b"instances = [1, 2]", "Invalid value. at offset: 0"),
        (b'{"a": tru}', "Invalid value. at offset: 9"),
        (b'{"a": Infinit}', "Invalid value. at offset: 13"),
        (b"[1,]", "Invalid value. at offset: 3"),
        (b"[", "Invalid value. at offset: 1"),
        (b"[1 2]", "Missing a comma or ] after an array element. at offset: 3"),
        (b'{"a": 1 "b"}', "Missing a comma or } after an object member. at offset: 8"),
        (b'{"a": 1', "Missing a comma or } after an object member. at offset: 7"),
        (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        (b"{a: 1}", "Missing a name for object member. at offset: 1"),
        (b'{"a": 1,}', "Missing a name for object member. at offset: 8"),
        (b'{"a": 01}', "Missing a comma or } after an object member. at offset: 7"),
        (b"[1.]", "Miss fraction part in number. at offset: 3"),
        (b"[1e+]", "Miss exponent in number. at offset: 4"),
        (b"[1e400]", "Number too big to be stored in double. at offset: 1"),
        (b'["abc', "Missing a closing quotation mark in string. at offset: 5"),
        (b'["\\x"]', "Invalid escape character in string. at offset: 2"),
        (b'["\\u12"]', "Incorrect hex digit after \\u escape in string. at offset: 2"),
        (b'["\\ud800"]', "The surrogate pair in string is invalid. at offset: 2"),
        (b'["\x01"]', "Invalid encoding in string. at offset: 2"),
    ],
)
def test_mistakes(text, message) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse(text)
    assert caught.value.message == f"JSON Parse error: {message}"
