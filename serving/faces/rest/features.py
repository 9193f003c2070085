"""The tf.Example messages of a classify or regress request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from protocol import messages
from protocol.errors import InvalidRequestError
from serving.faces.rest.documents import format_error, text_bytes, type_name
from serving.faces.rest.inputs import decode_base64, is_base64

_CONTEXT, _EXAMPLES = "context", "examples"
_INT64, _FLOAT, _BYTES = "int64", "float", "bytes"
_INT64_MAX = 2**63 - 1


def read_examples(document: Mapping[str, Any]) -> list[bytes]:
    """Reads the examples; each has the context's features in front of its own.

    Args:
        document: The request, with a list `examples` and perhaps an object `context`.

    Returns:
        Serialized tf.Example messages.

    Raises:
        InvalidRequestError: There is no list of examples, or a feature mixes types or has one that
            a feature can not hold.
    """
    context = _example(document[_CONTEXT]) if _CONTEXT in document else b""
    if _EXAMPLES not in document:
        raise format_error(
            document,
            f"When method is classify, key '{_EXAMPLES}' is expected and was not found",
        )
    examples = document[_EXAMPLES]
    if not isinstance(examples, list):
        raise format_error(document, f"Expecting '{_EXAMPLES}' value to be an list/array")
    if not examples:
        raise format_error(document, f"'{_EXAMPLES}' value is an empty array")
    return [context + _example(example) for example in examples]


def _example(value: Any) -> bytes:
    if not isinstance(value, dict):
        raise InvalidRequestError(f"Example must be JSON object but got JSON {type_name(value)}")
    example = messages.Example()
    for name, content in value.items():
        values = content if isinstance(content, list) else [content]
        # Written even where it is empty: the feature is then there, without a kind.
        feature = example.features.feature[text_bytes(name).decode(errors="replace")]
        _fill(feature, name, values)
    serialized: bytes = example.SerializeToString()
    return serialized


def _fill(feature: Any, name: str, values: list[Any]) -> None:
    kind = ""
    for value in values:
        found = _kind(value, name)
        if kind and found != kind:
            raise InvalidRequestError(
                f"Unexpected element type in feature: {name} expecting type: {kind}"
            )
        kind = found
        _check_range(value, name)
    if kind == _INT64:
        feature.int64_list.value.extend(map(int, values))
    elif kind == _FLOAT:
        feature.float_list.value.extend(map(float, values))
    elif kind == _BYTES:
        feature.bytes_list.value.extend(map(_bytes, values))


def _kind(value: Any, name: str) -> str:
    """The kind of feature that a value belongs to."""
    if isinstance(value, int):
        return _INT64
    if isinstance(value, float):
        return _FLOAT
    if isinstance(value, str) or is_base64(value):
        return _BYTES
    raise InvalidRequestError(
        f"Feature: {name} has element with unexpected JSON type: {type_name(value)}"
    )


def _check_range(value: Any, name: str) -> None:
    if isinstance(value, int) and value > _INT64_MAX:
        raise InvalidRequestError(
            f"Feature: {name} has uint64_t element. Only int64_t is supported."
        )


def _bytes(value: Any) -> bytes:
    return text_bytes(value) if isinstance(value, str) else decode_base64(value)
