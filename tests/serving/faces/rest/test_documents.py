import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import InvalidRequestError
from serving.faces.rest.documents import excerpt, read_document, signature_name
from serving.faces.rest.parser import parse

DEPTH = 50_000


@pytest.mark.parametrize(
    ("body", "document"),
    [
        (b'{"instances": [1, 2.5, "x", null, true]}', {"instances": [1, 2.5, "x", None, True]}),
        (b'\xef\xbb\xbf \n{"a": 1}', {"a": 1}),
        (b'{"a": [Infinity, -Infinity, Inf]}', {"a": [math.inf, -math.inf, math.inf]}),
        (b'{"a": 1}}}] what follows', {"a": 1}),
        (b'{"a": "\xff"}', {"a": "\udcff"}),
        (b'{"a": 18446744073709551616}', {"a": 2.0**64}),
    ],
)
def test_dialect(body, document) -> None:
    assert read_document(body) == document


def test_not_a_number() -> None:
    assert math.isnan(read_document(b'{"a": NaN}')["a"])


def test_depth_has_no_limit() -> None:
    nested = b"[" * DEPTH + b"]" * DEPTH
    document = read_document(b'{"instances":[1], "nested":' + nested + b"}")
    assert document["instances"] == [1]
    with pytest.raises(InvalidRequestError, match="key must be a string value"):
        signature_name(read_document(b'{"signature_name":' + nested + b"}"))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"instances = [1, 2]", "JSON Parse error: Invalid value. at offset: 0"),
        (b'{"a": 1e400}', "JSON Parse error: Number too big to be stored in double. at offset: 6"),
        (b'{"a": [NaN, 1e400]}', "Number too big to be stored in double. at offset: 12"),
        (b"[1, 2]", "JSON Value: [1, 2] Is not object"),
        (b"null", "JSON Value: null Is not object"),
    ],
)
def test_mistakes(body, message) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read_document(body)
    assert caught.value.message.endswith(message)


def test_signature_name() -> None:
    assert signature_name({}) == ""
    assert signature_name({"signature_name": "x"}) == "x"
    with pytest.raises(InvalidRequestError) as caught:
        signature_name({"signature_name": 100})
    assert caught.value.message == (
        'JSON Value: {\n    "signature_name": 100\n} not formatted correctly. '
        "'signature_name' key must be a string value."
    )


@pytest.mark.parametrize("value", ["x" * 10_000, ["ü"] * 500, [[[[1.5]]]] * 500, {"k": "ü" * 300}])
def test_excerpts_are_short(value) -> None:
    assert 250 <= len(excerpt(value).encode()) <= 256


def test_an_excerpt() -> None:
    value = {"a": [1, 2.5, None], "b": {"c": True}}
    assert excerpt(value) == (
        '{\n    "a": [1, 2.5, null],\n    "b": {\n        "c": true\n    }\n}'
    )


tokens = st.sampled_from(
    ["{", "}", "[", "]", ",", ":", '"a"', '"\\ud800"', '"\\u00e9"', "1", "-0", "1.5", "1e999",
     "NaN", "Inf", "-Infinity", "tru", "true", "null", " ", "\n", "01", "\x01", "\udcff", "9" * 30]
)  # fmt: skip


@given(st.lists(tokens, max_size=12).map("".join))
def test_the_libraries_agree_with_our_parser(text) -> None:
    body = f'{{"a": [{text}'.encode(errors="surrogateescape")
    for data in (body, body + b"]}", body + b"]} x"):
        assert _outcome(read_document, data) == _outcome(parse, data)


def _outcome(read, data) -> str:
    try:
        return repr(read(data))
    except InvalidRequestError as error:
        return error.message
