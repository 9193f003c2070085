import math

import pytest

from protocol import messages
from protocol.errors import InvalidRequestError
from serving.faces.rest.documents import read_document
from serving.faces.rest.features import read_examples


def read(text: str) -> list[dict[str, tuple[str, list]]]:
    """The features of each example, as kind and values."""
    found = []
    for data in read_examples(read_document(text.encode())):
        features = messages.Example.FromString(data).features.feature
        found.append({name: _values(feature) for name, feature in features.items()})
    return found


def _values(feature) -> tuple[str, list]:
    kind = feature.WhichOneof("kind") or ""
    return kind, list(getattr(feature, kind).value) if kind else []


def test_examples() -> None:
    assert read(
        """{"examples": [
            {"names": ["foo", {"b64": "aGVsbG8="}], "ratings": [8.0, 9.5, -Infinity], "age": 20},
            {"names": "ü", "ratings": 6.0, "mix": [1, true, false], "none": []}
        ]}"""
    ) == [
        {
            "names": ("bytes_list", [b"foo", b"hello"]),
            "ratings": ("float_list", [8.0, 9.5, -math.inf]),
            "age": ("int64_list", [20]),
        },
        {
            "names": ("bytes_list", ["ü".encode()]),
            "ratings": ("float_list", [6.0]),
            "mix": ("int64_list", [1, 1, 0]),
            "none": ("", []),
        },
    ]


def test_the_context_is_in_every_example() -> None:
    found = read('{"context": {"query": "pizza"}, "examples": [{"x": 1}, {"query": "tea"}]}')
    assert found == [
        {"query": ("bytes_list", [b"pizza"]), "x": ("int64_list", [1])},
        {"query": ("bytes_list", [b"tea"])},
    ]


def test_large_numbers() -> None:
    [example] = read(f'{{"examples": [{{"a": {2**63 - 1}, "b": {-(2**63)}, "c": {2**64}}}]}}')
    assert example["a"] == ("int64_list", [2**63 - 1])
    assert example["b"] == ("int64_list", [-(2**63)])
    assert example["c"] == ("float_list", [2.0**64])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "When method is classify, key 'examples' is expected and was not found"),
        ('{"examples": 1}', "Expecting 'examples' value to be an list/array"),
        ('{"examples": []}', "'examples' value is an empty array"),
        ('{"examples": [1]}', "Example must be JSON object but got JSON Number"),
        ('{"examples": [true]}', "Example must be JSON object but got JSON True"),
        ('{"context": [], "examples": [{}]}', "Example must be JSON object but got JSON Array"),
        (
            '{"examples": [{"names": ["a", null]}]}',
            "Feature: names has element with unexpected JSON type: Null",
        ),
        (
            '{"examples": [{"names": {"a": 1}}]}',
            "Feature: names has element with unexpected JSON type: Object",
        ),
        (
            '{"examples": [{"names": [[1]]}]}',
            "Feature: names has element with unexpected JSON type: Array",
        ),
        (
            '{"examples": [{"names": [1, 2.5]}]}',
            "Unexpected element type in feature: names expecting type: int64",
        ),
        (
            '{"examples": [{"names": [2.5, "a"]}]}',
            "Unexpected element type in feature: names expecting type: float",
        ),
        (
            '{"examples": [{"names": ["a", true]}]}',
            "Unexpected element type in feature: names expecting type: bytes",
        ),
        (
            '{"examples": [{"age": 9223372036854775808}]}',
            "Feature: age has uint64_t element. Only int64_t is supported.",
        ),
        ('{"examples": [{"a": {"b64": "A"}}]}', "Unable to base64 decode"),
    ],
)
def test_mistakes(text, message) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read(text)
    assert caught.value.message.endswith(message)
